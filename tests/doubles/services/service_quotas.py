"""A double of AWS's Service Quotas, on loopback: moto knows no quota of EC2's. It answers GetServiceQuota, as published.

With `denies` nobody may ask. What it does not imitate is an error.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

TARGET: Final = "ServiceQuotasV20190624.GetServiceQuota"


@contextmanager
def started(values: Mapping[str, float], *, denies: bool = False) -> Iterator[str]:
    """Its URL. `values`: the quotas that the account has, by their codes."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert (self.headers["X-Amz-Target"], asked["ServiceCode"]) == (TARGET, "ec2")
            status, body = _answer(values, asked["QuotaCode"], denies=denies)
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(values: Mapping[str, float], code: str, *, denies: bool) -> tuple[int, dict[str, Any]]:
    if denies:
        said = "User: arn:aws:iam::123456789012:user/ada is not authorized to perform: servicequotas:GetServiceQuota"
        return 400, {"__type": "AccessDeniedException", "Message": said}
    if code not in values:
        return 400, {"__type": "NoSuchResourceException", "Message": "The request failed because the quota does not exist."}
    return 200, {"Quota": {"ServiceCode": "ec2", "QuotaCode": code, "Value": values[code], "Unit": "None"}}
