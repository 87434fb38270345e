"""The types of devices that implementations run on."""

from enum import StrEnum


class DeviceType(StrEnum):
    """The `type` of a `torch.device`, as rows name it in the column `device`."""

    CPU = "cpu"
    CUDA = "cuda"
