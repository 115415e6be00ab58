"""Face data over UDP: from iPhone apps and VTuber software onto the rig, and from Mien to them.

One module per format, each a pure decoder and encoder (`livelink`, `facecap`, `vmc`,
`ifacialmocap`, over `osc` where the format is OSC); `source` and `senders` own the
sockets. Formats and signs are laid down in ``docs/network.md``.
"""

from .sample import FaceSample, Refused
from .senders import LiveLinkFaceSender, SenderStats, VmcSender
from .source import FORMATS, NetworkSource, NetworkStats, lan_address

__all__ = [
    "FORMATS",
    "FaceSample",
    "LiveLinkFaceSender",
    "NetworkSource",
    "NetworkStats",
    "Refused",
    "SenderStats",
    "VmcSender",
    "lan_address",
]
