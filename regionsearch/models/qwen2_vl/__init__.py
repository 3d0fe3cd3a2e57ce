"""What the embedders that are built on Qwen2-VL share: pixels, weights, vision tower, language model.

The modules are imported by name (`qwen2_vl.language`), since most need torch and `preprocessing` does not.
"""
