"""Pretrained knowledge: the table of backbones and how each is loaded."""
