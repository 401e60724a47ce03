"""MDAN, the Multi-level Dependent Attention Network (Xu et al., CVPR 2022)."""
