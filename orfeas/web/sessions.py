"""What Gradio 6.31 keeps in memory of sessions, calls and uploads, bounded: of its own accord it forgets little of it.

A session is 0.2 MB, and there are up to 10,000 of them. Nearly all of it is a description of every component, from
which its deep links restore a page; there are none here (`orfeas.web.calls`). Making it costs 12 ms, in which nobody is
answered.
"""

from __future__ import annotations

import os
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING

from gradio.routes import file_upload_statuses
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


class Remains:
    """What is left in Gradio's memory of calls and uploads that are over. demo: it has been launched."""

    def __init__(self, demo: gr.Blocks):
        self._demo = demo
        self._loop = demo.server.servers[0].get_loop()
        self._uploads: set[str] = set()  # that were under way, or had been, when it was last looked

    def forget(self) -> None:
        """Forget what nobody can ask for any more. For a thread: the most part is done by the server's loop, a moment
        later, for Gradio's tables are only consistent between two steps of it.

        How far an upload has come is forgotten the second time: of one that takes so long no page is told any more.
        """
        self._loop.call_soon_threadsafe(self._forget_calls)
        self._loop.call_soon_threadsafe(self._forget_uploads)
        uploaded = self._demo.upload_file_set
        uploaded.difference_update([path for path in list(uploaded) if not os.path.exists(path)])

    def _forget_calls(self) -> None:
        """Those without a session that could read how they end, and the sessions in which all was read."""
        queue = self._demo._queue
        unread = queue.pending_messages_per_session
        for session, events in list(queue.pending_event_ids_session.items()):
            if session not in unread or (not events and unread[session].empty()):
                del queue.pending_event_ids_session[session]

    def _forget_uploads(self) -> None:
        signals, statuses = file_upload_statuses._signals, file_upload_statuses._statuses
        for name in self._uploads:
            signals.pop(name, None)
            statuses.pop(name, None)
        self._uploads = {*signals, *statuses}
