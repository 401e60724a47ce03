"""Dataset readers, one file each."""
