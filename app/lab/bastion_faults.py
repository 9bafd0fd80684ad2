"""How the lab's Azure Bastion can misbehave, each as production shows it. Light on imports: names and sentences."""

from __future__ import annotations

FAULTS: dict[str, str] = {
    "no-upgrade-headers": "answers 101 without the headers Upgrade and Connection",
    "rsv1": "sets the bit RSV1 in every data frame, though nothing is compressed",
    "http-400-after-101": "answers 101 and then, on the same connection, HTTP/1.1 400",
    "silent-101": "answers 101 and then nothing, for ever",
    "bastion-403": "refuses every token exchange with 403",
    "bastion-502": "answers every token exchange with a gateway's 502 page",
    "bastion-401-text": "answers every token exchange with 401 in plain text",
    "no-node-id": "leaves nodeId out of the answer to a token exchange",
    "close-midstream": "drops tunnels in the middle of a frame after 16 KiB, without a close frame",
    "slow-token": "takes 700 ms longer for a token exchange",
    "used-token": "calls every WebSocket token used",
    "delete-404": "answers 404 to every deletion of a session",
    "delete-hangs": "never answers the deletion of a session",
    "one-session": "allows one session at a time, as the Developer SKU",
    "tunneling-disabled": "says that tunnelling is switched off on this host",
    "fragments": "cuts every message into fragments, with pings between them",
    "big-frames": "gathers what the target sends into frames of more than 64 KiB",
}
"""Name to what the host then does. The last two are no failures: frames that any client has to understand."""
