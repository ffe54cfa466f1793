"""Ways to learn a layer: one record per kind, one file each. A new kind is a file here and a line below."""

from .dora import DORA
from .full import FULL
from .loha import LOHA
from .lokr import LOKR
from .lora import LORA
from .oft import OFT
from .record import COMFYUI, DIFFUSERS, LYCORIS, SD_SCRIPTS, Kind, is_linear
from .rslora import RSLORA

KINDS: dict[str, Kind] = {kind.name: kind for kind in (LORA, RSLORA, DORA, LOKR, LOHA, OFT, FULL)}
"""By name, in the order of the widget."""

__all__ = ["COMFYUI", "DIFFUSERS", "FULL", "KINDS", "LYCORIS", "SD_SCRIPTS", "Kind", "is_linear"]
