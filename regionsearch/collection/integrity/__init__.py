"""Whether what is stored is whole: checked, reported, mended."""
