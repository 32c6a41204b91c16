"""Where images come from: each file registers one source; what it needs is imported when it is used."""

from vallum.data.sources import builtin, camvid, cityscapes, folder, hugging_face, npz, npz_clips, torchvision, video

__all__ = ["builtin", "camvid", "cityscapes", "folder", "hugging_face", "npz", "npz_clips", "torchvision", "video"]
