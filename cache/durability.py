"""What a power cut may take. Pure.

Whatever is chosen, nothing damaged is ever served: length, CRC and hash are compared. The choice is
between losing what was stored last, and waiting for the disk with every fill.
"""

import enum


class Durability(enum.StrEnum):
    NONE = "none"  # the kernel writes when it likes: some seconds of fills may be lost
    DATA = "data"  # a file is on the disk before it gets its name; the name may be lost
    FULL = "full"  # the name, too, before the fill ends

    @property
    def syncs_files(self) -> bool:
        return self is not Durability.NONE
