"""The SSH server of a local box: its keys and configuration, and the command that starts it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from provision.errors import MissingPart
from provision.home.places import HOME_VARIABLE, SYSTEM_FOLDERS, UNFIT, require_folder
from provision.redact import without_secrets
from provision.ssh.keys import make_key

VERSION = re.compile(r"OpenSSH_(\d+)\.(\d+)")
TRY_S = 10.0  # assumed: to start a process in a namespace, or to print a version, takes no longer
# What a process of this machine would see, too. No secret is among them.
PASSED_ON = ("PATH", "OMP_NUM_THREADS", "HF_HOME", "HF_HUB_OFFLINE", "XDG_CACHE_HOME", "LANG")
NAMESPACE = ("bwrap", "--die-with-parent", "--unshare-pid", "--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc")

SSHD_CONFIG = """\
ListenAddress 127.0.0.1
HostKey "{server}/host_key"
AuthorizedKeysFile "{authorized}"
AllowUsers {user}
PermitRootLogin prohibit-password
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
Subsystem sftp internal-sftp
PermitTTY no
X11Forwarding no
AllowTcpForwarding no
AllowAgentForwarding no
ClientAliveInterval 15
MaxSessions 64
MaxStartups 64
{penalties}SetEnv {environment}
"""


def write_server(folder: Path, *, public_key: str, marks: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """Keys and configuration of a server that admits `public_key`; returns the public host key.

    Sessions carry `marks`, and of `environment` what PASSED_ON names. Raises BadInput for a folder that the configuration
    can't name, MissingPart for a user without a name.
    """
    require_folder(folder, variable=HOME_VARIABLE)
    (folder / "authorized_keys").write_text(f"{public_key}\n")
    passed = {name: environment[name] for name in PASSED_ON if not UNFIT.search(environment.get(name) or "\n")}
    # bash below an sshd reads the user's start-up files for every command, unless it is told that it is not the first.
    session = {**marks, **passed, "SHLVL": "1"}
    config = SSHD_CONFIG.format(
        server=folder,
        authorized=str(folder / "authorized_keys").replace("%", "%%"),
        user=current_user(),
        penalties=_penalties(),
        environment=" ".join(f'{name}="{value}"' for name, value in session.items()),
    )
    (folder / "sshd_config").write_text(config)
    return " ".join(make_key(folder / "host_key", comment="").public.split()[:2])


def server_command(folder: Path, *, namespace: bool) -> tuple[str, ...]:
    """What starts the server that `write_server` described, its port apart. Raises MissingPart."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd as root separates its privileges in there
    return (*(_namespace() if namespace else ()), find_sshd(), "-D", "-e", "-f", str(folder / "sshd_config"))


def current_user() -> str:
    """Whoever we are to the kernel; an ordinary user's sshd lets nobody else in, and nobody whom the system has no name for.

    Raises MissingPart.
    """
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise MissingPart(
            f"The local box needs a user whom this system knows, and it has no name for user {os.geteuid()}.",
            hint="Start the container as a user of its image, or add a line for this one to its /etc/passwd.",
        ) from None


def find_sshd() -> str:
    """Absolute path of the SSH server: it starts itself again for each connection. Raises MissingPart."""
    path = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_FOLDERS]))
    if path is None:
        raise MissingPart("The local box needs an SSH server, and there is none.", hint="apt-get install openssh-server")
    return path


def bubblewrap_works() -> bool:
    """Whether a process can be started in a PID namespace of its own here."""
    if shutil.which("bwrap") is None:
        return False
    return _ask(*_namespace(), "true").returncode == 0


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    own = without_secrets(os.environ)  # everybody on this machine may see what a process of theirs was started with
    return subprocess.run(command, env=own, capture_output=True, text=True, check=False, timeout=TRY_S)


def _namespace() -> tuple[str, ...]:
    keep_root = ("--cap-add", "ALL") if os.geteuid() == 0 else ()
    return (*NAMESPACE, *keep_root, "--")


def _penalties() -> str:
    """OpenSSH from 9.8 on shuts out an address after failed logins, and ours is everybody's; older ones refuse the word.

    Servers too old to know -V name their version beside their complaint.
    """
    said = _ask(find_sshd(), "-V").stderr
    version = VERSION.search(said)
    return "PerSourcePenalties no\n" if version and (int(version[1]), int(version[2])) >= (9, 8) else ""
