"""A hub on this machine: what huggingface_hub asks to push a repository and to fetch one, and nothing more.

Large files go to a second host, as the hub's do; who was sent which token is written down.
"""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories by name: {"owner/name": {path: bytes}}; `told` has (host, path, authorization) of each request."""

    def __init__(self, wanted: str = ""):
        self.repositories, self.private, self.told, self.blobs = {}, {}, [], {}
        self.wanted = f"Bearer {wanted}" if wanted else None
        self.servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, host)) for host in ("hub", "store")]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.servers[0].server_port}"

    def close(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def answer(self, method: str, path: str, body: bytes) -> dict | list | bytes | None:
        """What the hub says; None: it does not know."""
        parts = path.strip("/").split("/")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if name not in self.repositories:
                self.repositories[name] = {}
                self.private[name] = asked.get("visibility") == "private" or asked.get("private")
            return {"url": f"{self.url}/{name}", "name": name, "id": name}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if parts[:2] == ["api", "models"] and len(parts) > 3:
            return self._of_model("/".join(parts[2:4]), parts[4:], body)
        if path.endswith(".git/info/lfs/objects/batch"):
            store = f"http://127.0.0.1:{self.servers[1].server_port}"
            objects = json.loads(body)["objects"]
            actions = [{**one, "actions": {"upload": {"href": f"{store}/{one['oid']}"}}} for one in objects]
            return {"transfer": "basic", "objects": actions}
        if len(parts) > 4 and parts[2] == "resolve":
            return self.repositories.get("/".join(parts[:2]), {}).get("/".join(parts[4:]))
        return None

    def _of_model(self, name: str, rest: list[str], body: bytes) -> dict | list | None:
        if rest[:1] == ["preupload"]:
            large = (".safetensors", ".gguf")
            asked = json.loads(body)["files"]
            modes = {one["path"]: "lfs" if one["path"].endswith(large) else "regular" for one in asked}
            return {"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes.items()]}
        if rest[:1] == ["commit"]:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.repositories[name][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.repositories[name][value["path"]] = self.blobs[value["oid"]]
            return {"success": True, "commitUrl": f"{self.url}/{name}/commit/{REVISION}", "commitOid": REVISION}
        files = self.repositories.get(name)
        if files is None:
            return None
        if rest[:1] == ["tree"]:
            sizes = {path: len(content) for path, content in files.items()}
            return [{"type": "file", "path": p, "size": size, "oid": "0" * 40} for p, size in sizes.items()]
        siblings = [{"rfilename": path} for path in files]
        return {"id": name, "sha": REVISION, "private": bool(self.private.get(name)), "siblings": siblings}


def _handler(hub: Hub, host: str):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_) -> None:
            pass

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, given = unquote(urlsplit(self.path).path), self.headers.get("Authorization")
            hub.told.append((host, path, given))
            if host == "store":
                hub.blobs[path.strip("/")] = body
                self._send(200, b"")
            elif hub.wanted and given != hub.wanted:
                self._send(401, b'{"error": "Invalid credentials"}')
            else:
                found = hub.answer(self.command, path, body)
                content = found if isinstance(found, bytes) else json.dumps(found).encode()
                self._send(404 if found is None else 200, content)

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            if status == 404:
                self.send_header("X-Error-Code", "EntryNotFound" if "/resolve/" in self.path else "RepoNotFound")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_HEAD = _do

    return Handler
