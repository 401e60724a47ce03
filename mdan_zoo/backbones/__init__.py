"""Backbones: timm models as four-stage feature pyramids."""
