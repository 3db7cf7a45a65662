"""An OpenAI-compatible HTTP server and a chat page for one assistant."""

from hybrid.server.app import Server, make_server

__all__ = ["Server", "make_server"]
