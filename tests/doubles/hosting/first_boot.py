"""What cloud-init does with the user data that we write, in its order. It runs inside a machine, as root, at every boot.

Of a document only `bootcmd` is carried out at each boot; the rest at the first, as cloud-init's modules say of themselves.
Anything else in a document is an error that the console shows: nothing may seem to work because it was passed over.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from tests.doubles.hosting.machines import USER_DATA

SSH: Final = Path("/etc/ssh")
EACH_BOOT: Final = frozenset({"bootcmd"})


def add_users(users: list[dict[str, Any]]) -> None:
    """Each as the document says, or as it says of one whom the image has already."""
    for each in users:
        if unknown := each.keys() - {"name", "shell", "sudo", "lock_passwd", "ssh_authorized_keys"}:
            raise SystemExit(say(f"what it does not imitate of a user: {', '.join(sorted(unknown))}"))
        subprocess.run(["useradd", "--create-home", "--shell", each["shell"], each["name"]], check=True)
        only(True)(each["lock_passwd"])
        may = Path("/etc/sudoers.d/90-cloud-init-users")
        may.write_text(f"{each['name']} {each['sudo']}\n")
        may.chmod(0o440)
        admit(each["name"], each["ssh_authorized_keys"])


def admit(name: str, keys: list[str]) -> None:
    """Into the user's file; root's stays empty."""
    user = pwd.getpwnam(name)
    folder = Path(user.pw_dir, ".ssh")
    folder.mkdir(0o700)
    file = folder / "authorized_keys"
    file.touch(0o600)
    file.write_text("".join(f"{key}\n" for key in keys))
    for path in (folder, file):
        os.chown(path, user.pw_uid, user.pw_gid)


def run_each(commands: list[list[str]]) -> None:
    """One after the other; one that fails is told, and the next runs."""
    for command in commands:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            say(f"{command[:2]} failed with {done.returncode}")


def delete_keys(wanted: bool) -> None:
    """Whatever host keys an image brings are known to others."""
    for file in SSH.glob("ssh_host_*key*") if wanted else ():
        file.unlink()


def write_host_keys(keys: Mapping[str, str]) -> None:
    """The keys of the document, and then no others are made."""
    for name, text in keys.items():
        kind, _, half = name.partition("_")
        private = SSH / f"ssh_host_{kind}_key"
        path, mode = {"private": (private, 0o600), "public": (private.with_suffix(".pub"), 0o644)}[half]
        path.touch(mode)
        path.write_text(text if text.endswith("\n") else f"{text}\n")


def set_passwords(admitted: bool) -> None:
    (SSH / "sshd_config.d").mkdir(exist_ok=True)
    word = "yes" if admitted else "no"
    (SSH / "sshd_config.d/50-cloud-init.conf").write_text(f"PasswordAuthentication {word}\n")


def only(expected: bool) -> Callable[[bool], None]:
    """A switch of which one position is imitated."""

    def check(value: bool) -> None:
        if value is not expected:
            raise SystemExit(say(f"a switch is {value}, and only {expected} is imitated"))

    return check


# In cloud-init's order of modules, not the document's.
Step = tuple[str, Callable[[Any], None]]
STAGES: Final[dict[str, tuple[Step, ...]]] = {
    "init": (
        ("bootcmd", run_each),
        ("users", add_users),
        ("ssh_pwauth", set_passwords),
        ("disable_root", only(True)),
        ("ssh_deletekeys", delete_keys),
        ("ssh_keys", write_host_keys),
    ),
    "final": (
        ("package_update", only(False)),
        ("package_upgrade", only(False)),
        ("runcmd", run_each),
    ),
}


def say(sentence: str) -> str:
    """Onto the console."""
    sys.stdout.write(f"first boot: {sentence}\n")
    sys.stdout.flush()
    return sentence


def main(stage: str) -> None:
    text = Path("/", USER_DATA).read_text()
    document = YAML(typ="safe").load(text) if text.startswith("#cloud-config\n") else {"?": text}
    if unknown := document.keys() - {key for steps in STAGES.values() for key, _ in steps}:
        raise SystemExit(say(f"what it does not imitate: {', '.join(sorted(unknown))}"))
    done = Path("/", USER_DATA).with_name(f"{stage}-is-done")
    for key, act in STAGES[stage]:
        if key in document and (key in EACH_BOOT or not done.exists()):
            act(document[key])
    done.touch()
    say(f"stage {stage} is over")


if __name__ == "__main__":
    main(sys.argv[1])
