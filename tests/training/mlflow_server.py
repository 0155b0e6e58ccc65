"""A server that speaks as much of MLflow's REST protocol as a run needs, and that can go away, come back or hang."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse


class Server:
    def __init__(self) -> None:
        self.points: list[tuple[str, int, float]] = []
        """Every point in the order in which it came."""
        self.status = None
        self.params: dict[str, str] = {}
        self.requests = 0
        self.hangs = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, at the same port as before."""
        handler = type("Handler", (_Handler,), {"state": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: dict) -> dict | None:
        self.requests += 1
        run = {
            "info": {"run_id": "r", "run_uuid": "r", "experiment_id": "1", "lifecycle_stage": "active", "status": 1},
            "data": {
                "metrics": [{"key": k, "value": v, "step": s, "timestamp": 1} for k, s, v in self.points],
                "params": [{"key": k, "value": v} for k, v in self.params.items()],
            },
        }  # fmt: skip
        match path.removeprefix("/api/2.0/mlflow/"):
            case "experiments/get-by-name" | "experiments/get":
                return {"experiment": {"experiment_id": "1", "name": "sla-ablate", "lifecycle_stage": "active"}}
            case "runs/create" | "runs/get":
                return {"run": run}
            case "runs/update":
                self.status = body["status"]
                return {"run_info": run["info"]}
            case "runs/log-batch":
                self.params |= {each["key"]: each["value"] for each in body.get("params", [])}
                metrics = body.get("metrics", [])
                self.points += [(each["key"], int(each.get("step", 0)), each["value"]) for each in metrics]
                return {}
            case "runs/log-metric":
                self.points.append((body["key"], int(body.get("step", 0)), body["value"]))
                return {}
            case "metrics/get-history":
                points = [each for each in run["data"]["metrics"] if each["key"] == body["metric_key"]]
                return {"metrics": points}
        return None


class _Handler(BaseHTTPRequestHandler):
    state: Server

    def _serve(self) -> None:
        if self.state.hangs.is_set():
            threading.Event().wait(20)
        url = urlparse(self.path)
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else {k: v[0] for k, v in parse_qs(url.query).items()}
        answer = self.state.answer(url.path, body)
        self.send_response(404 if answer is None else 200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer or {}).encode())

    do_GET = do_POST = do_PATCH = _serve  # noqa: N815

    def log_message(self, *unused: object) -> None: ...
