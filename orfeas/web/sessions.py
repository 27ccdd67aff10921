"""What Gradio 6.31 keeps in memory of each session, bounded: of its own accord that is 0.2 MB each, for 10,000 of them.

Nearly all of it is a description of every component, from which its deep links restore a page; there are none here
(`orfeas.web.calls`). Making it costs 12 ms, in which the server answers nobody.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING

from gradio.state_holder import SessionState, StateHolder

if TYPE_CHECKING:
    import gradio as gr

KEPT_SESSIONS = 2000  # pages and clients; of those that were not used for longest, the taps on a cutout are forgotten
# A call by plain HTTP has a session of its own, which Gradio names as its event. It ends with the call.
_ONCE = re.compile(r"[0-9a-f]{32}")


class Sessions(StateHolder):
    """The states of the sessions of ``demo``, which has been launched: `keep` puts it in the place of Gradio's own."""

    def __init__(self, demo: gr.Blocks):
        super().__init__()
        self.blocks = SimpleNamespace(default_config=demo.default_config, blocks={})  # no component is described
        self.capacity = KEPT_SESSIONS

    @classmethod
    def keep(cls, demo: gr.Blocks) -> None:
        demo.state_holder = demo.app.state_holder = cls(demo)

    def __getitem__(self, session_id: str) -> SessionState:
        return SessionState(self.blocks) if _ONCE.fullmatch(session_id) else super().__getitem__(session_id)
