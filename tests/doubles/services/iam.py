"""An account of moto's in which IAM is enforced: users may do what their policy's actions say, and nothing else.

moto looks at actions alone. It denies whatever a condition would have to decide, and matches no resource, so both are taken
out of a policy before it is given to a user here.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable
from typing import Any, Final

import boto3

from tests.doubles.emulator import Emulator

NEVER: Final = "inf"


class Account:
    """Takes over the emulator; nothing can be done in it any more but by its users."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._keys = 0
        emulator.reset()
        self._enforce(NEVER)
        self._iam: Any = self._client(emulator.environment)
        self.admin = self.user(["*"])
        self._iam = self._client(self.admin)
        self._enforce("0")

    def user(self, actions: Iterable[str]) -> dict[str, str]:
        """A new user who may do exactly this: what SDKs need to act as them."""
        self._keys += 1
        name = f"user-{self._keys}"
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": sorted(actions), "Resource": "*"}]}
        self._iam.create_user(UserName=name)
        self._iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=json.dumps(policy))
        key = self._iam.create_access_key(UserName=name)["AccessKey"]
        pair = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        return self.emulator.environment | pair

    def close(self) -> None:
        """Nothing is enforced any more."""
        self._enforce(NEVER)

    def _enforce(self, after_requests: str) -> None:
        url = f"{self.emulator.url}/moto-api/reset-auth"
        request = urllib.request.Request(url, data=after_requests.encode(), headers={"Content-Type": "text/plain"})
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200

    def _client(self, environment: dict[str, str]) -> Any:
        return boto3.client(
            "iam",
            region_name="us-east-1",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        )
