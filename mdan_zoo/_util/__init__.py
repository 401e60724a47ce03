"""General-purpose helpers, independent of the rest of the package."""
