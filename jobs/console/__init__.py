"""The console: pages that a server shows in a browser. Its first page is the review of a queue.

Starlette and uvicorn come with the extra `console`; only this folder imports them. `app` has the routes, `guard`
decides who may use them, `server` binds the socket. Pages are templates and static files without inline scripts; data
reach the browser as JSON alone, and the script sets them as text.
"""

__all__ = [
    "ranking",
    "server",
]
