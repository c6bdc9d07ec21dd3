"""What a folder's name alone may tell: that masks are in it, that what is in it is about the data set, or nothing."""

import re
from functools import lru_cache

_ANNOTATIONS = {
    *("annotation", "annotations", "mask", "masks", "trimap", "trimaps"),
    *("segmentation", "segmentations", "groundtruth", "gt", "labels"),
}
_NOTHING = {
    *("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pics", "jpg", "jpeg", "png"),
    *("jpegimages", "original", "originals", "rgb", "input", "inputs"),
    *("data", "dataset", "dcim", "export", "files", "samples", "图片", "照片", "数据", "数据集", "图像"),
}
_ABOUT = {
    *("doc", "docs", "sample", "samples", "example", "examples", "demo", "demos", "asset", "assets", "static"),
    *("readme", "figure", "figures", "screenshot", "screenshots", "示例", "样例", "文档"),
}


@lru_cache(maxsize=4096)
def holds_annotations(folder: str) -> bool:
    """Whether a folder is called as those that hold a second picture of each picture: where in it something is."""
    return _key(folder) in _ANNOTATIONS


@lru_cache(maxsize=4096)
def says_nothing(folder: str) -> bool:
    """Whether a folder's name, as "images", says nothing about what is in it."""
    return _key(folder) in _NOTHING


@lru_cache(maxsize=4096)
def is_about(folder: str) -> bool:
    """Whether a folder, as "docs", is called as those with pictures about a data set, not of it."""
    return _key(folder) in _ABOUT


def names_a_class(folder: str) -> bool:
    """Whether a folder may be called as what is in it."""
    return not says_nothing(folder) and not is_about(folder)


def _key(folder: str) -> str:
    return re.sub(r"[\s_\-.]+", "", folder.casefold()) if len(folder) < 20 else ""
