"""What is run on a user's host, as POSIX shell. Everything of ours lies below ~/.rentune, but for one line that admits a key.

Processes are known by `RENTUNE_BOXES` (the folder of boxes) and `RENTUNE_BOX` (the run id) in their environment, the key
by its comment `rentune:<run id>`.
"""

from __future__ import annotations

from provision.aboard import lease, renewal
from provision.aboard.job import secret_places
from provision.aboard.marks import MARKED
from provision.aboard.ship import STACK_MARK

SECRETS = " ".join(f'"{place}"' for place in secret_places("$run"))
OURS = f"""\
boxes="$HOME/.rentune/boxes"
{MARKED}
of_run() {{ for each in $(marked "RENTUNE_BOXES=$boxes"); do ! carries "RENTUNE_BOX=$1" "$each" || echo "$each"; done; }}
"""

STACKS = "stacks"  # below ~/.rentune: environments that the next run may use, beside "boxes"

# What was not there before us goes with our last run: these are left as long as it is ours to remove.
MADE_FOLDER = '"$HOME/.rentune/made.ssh"'
MADE_KEYS = '"$HOME/.rentune/made.authorized_keys"'

# The user's own keys must outlive whatever happens here: one change at a time (the lock is the folder's, so that no file
# is left), and only a whole new file takes the old one's place. In a subshell, with `set -e`.
CHANGE_KEYS = """\
  exec 9< "$HOME/.ssh"
  flock 9
  keys=$(readlink -f "$HOME/.ssh/authorized_keys")
  trap 'rm -f "$keys.rentune"' EXIT
  rm -f "$keys.rentune"
  [ ! -e "$keys" ] || cp -p "$keys" "$keys.rentune"
  others() { LC_ALL=C sed "/ rentune:$run\\$/d" "$keys"; }  # not by grep: a comment that is not UTF-8 costs it the line
"""

# Variable: run. Prints the folder; fails when it is there already.
MAKE_FOLDER = f"""\
{OURS}
umask 077
mkdir -p "$boxes" && mkdir "$boxes/$run" && echo "$boxes/$run"
"""

# Variable: run. Prints the folder of a run that has one.
FOLDER = """\
cd "$HOME/.rentune/boxes/$run" && pwd
"""

# Variables: run, key ("type base64"), left (seconds: this clock may be wrong, the span is not). The key ends by itself: what
# nobody removes lets nobody in after the deadline. In the place of a line that the run has there; the later end holds.
ADMIT = f"""\
set -e
umask 077
mkdir -p "$HOME/.rentune"
[ -d "$HOME/.ssh" ] || : > {MADE_FOLDER}
mkdir -p "$HOME/.ssh"
until=$(date -d "@$(($(date +%s) + left))" +%Y%m%d%H%M%S)
{CHANGE_KEYS}
[ -e "$keys" ] || : > {MADE_KEYS}
if [ -e "$keys" ]; then
  had=$(LC_ALL=C sed -n "s/^restrict,expiry-time=\\"\\([0-9]*\\)\\" .* rentune:$run\\$/\\1/p" "$keys" | tail -n 1)
  [ "${{had:-0}}" -le "$until" ] || until=$had
  others > "$keys.rentune"
fi
[ ! -s "$keys.rentune" ] || [ -z "$(tail -c 1 "$keys.rentune")" ] || echo >> "$keys.rentune"
echo "restrict,expiry-time=\\"$until\\" $key rentune:$run" >> "$keys.rentune"
mv -f "$keys.rentune" "$keys"
"""

# Variables: as of ADMIT. For a run whose folder is there, and its key past its end: what it holds may be the only copy.
READMIT = f"""\
[ -d "$HOME/.rentune/boxes/$run" ] || {{ echo "nothing of the run is there" >&2; exit 1; }}
{ADMIT}
"""

NAP_S = 60  # assumed: a sleep does not count the hours of a suspended machine

# Variables: left and lease_s (seconds; no lease: empty), RENTUNE_BOX and RENTUNE_TASK from the environment. By uptime: a clock
# that is set back extends nothing. Spares its own task. A lease that has ended ends what runs: the host stays, so whoever comes
# back goes on from what lies there, and has another.
WATCH = f"""\
{OURS}
{renewal.FUNCTIONS}
{lease.FUNCTIONS}
end_processes() {{
  for signal in TERM KILL; do
    for each in $(of_run "$RENTUNE_BOX"); do
      carries "RENTUNE_TASK=$RENTUNE_TASK" "$each" || kill -"$signal" "$each" 2> /dev/null
    done
    [ "$signal" = KILL ] || sleep 2
  done
}}
end_lease() {{
  leaving_s=$((left < {lease.LEAVING_S:.0f} ? left : {lease.LEAVING_S:.0f}))
  ( flock 8; lease_ends && end_processes ) 8< "$box"  # whoever begins a trainer anew waits for this: the rest is ended with it
  began_s=$(up_s)
}}
box=$boxes/$RENTUNE_BOX began_s=$(up_s)
ends_at=$((began_s + left))
while left=$((ends_at - $(up_s))) && [ "$left" -gt 0 ]; do
  nap_s=$((left > {NAP_S} ? {NAP_S} : left))
  if [ -n "${{lease_s:-}}" ]; then
    ! is_unrenewed || end_lease
    until_s=$((lease_s - $(unrenewed_s)))
    [ "$until_s" -le 0 ] || nap_s=$((until_s > nap_s ? nap_s : until_s))
  fi
  sleep "$nap_s"
done
end_processes
"""

# Variable: run. Over and over until no process is left, since one may start another.
CLEAN = f"""\
{OURS}
left=100
while [ "$left" -gt 0 ] && [ -n "$(of_run "$run")" ]; do
  for each in $(of_run "$run"); do kill -KILL "$each" 2> /dev/null; done
  sleep 0.05
  left=$((left - 1))
done
rm -rf "${{boxes:?}}/${{run:?}}"
rm -f {SECRETS}
for each in "$HOME/.rentune/{STACKS}"/*; do  # half an environment is of no use, unless somebody is building it
  if [ -d "$each" ] && [ ! -f "$each/{STACK_MARK}" ]; then flock -n "$each.lock" rm -rf "$each" "$each.lock"; fi
done
if grep -sq " rentune:$run\\$" "$HOME/.ssh/authorized_keys"; then
(
  set -e
{CHANGE_KEYS}
  others > "$keys.rentune"
  mv -f "$keys.rentune" "$keys"
  if [ -z "$(ls -A "$boxes" 2> /dev/null)" ]; then  # another run may be about to write its key
    [ -s "$keys" ] || [ ! -e {MADE_KEYS} ] || rm -f "$keys"
    [ ! -e {MADE_FOLDER} ] || rmdir "$HOME/.ssh" 2> /dev/null || true
  fi
)
[ "$?" = 0 ] || exit 1  # not "|| exit": beside it set -e would say nothing
fi
[ -n "$(ls -A "$boxes" 2> /dev/null)" ] || rm -f {MADE_FOLDER} {MADE_KEYS}
rmdir "$boxes" "$HOME/.rentune/{STACKS}" "$HOME/.rentune" 2> /dev/null
true
"""

# Prints "KiB folder" of the environments that wait for the next run; nothing where there is none.
WAITING = f"""\
cd "$HOME/.rentune/{STACKS}" 2> /dev/null && echo "$(du -sk . | cut -f 1) $PWD"
true
"""

# Prints "kind run_id id" for all runs.
LIST = f"""\
{OURS}
for each in "$boxes"/*; do
  [ ! -d "$each" ] || echo "folder ${{each##*/}} $each"
done
for each in $(marked "RENTUNE_BOXES=$boxes"); do
  run=$(tr '\\0' '\\n' 2> /dev/null < "/proc/$each/environ" | sed -n 's/^RENTUNE_BOX=//p')
  [ -z "$run" ] || echo "process $run $each"
done
sed -n 's/.* rentune:\\([^ ]*\\)$/key_line \\1 authorized_keys/p' "$HOME/.ssh/authorized_keys" 2> /dev/null
true
"""

# Variable: run. What ends a run there, in the lines of provision/aboard/layers.py. The watchdog counts down what it was given,
# from when it began.
LOOK = f"""\
{OURS}
{renewal.FUNCTIONS}
{lease.FUNCTIONS}
told() {{ tr '\\0' '\\n' < "/proc/$watchdog/environ" | sed -n "s/^$1=//p"; }}
watchdog=
for each in $(marked "RENTUNE_TASK=$boxes/$run/deadline"); do
  case "$(tr '\\0' ' ' < "/proc/$each/cmdline")" in "sh ./task.sh "*) watchdog=$each ;; esac
done
of_lease() {{ box=$boxes/$run lease_s=$(told lease_s); [ -z "$lease_s" ] || tell_lease "$1"; }}
if [ -n "$watchdog" ] && grep -qs '^State:[[:space:]]*[Tt]' "/proc/$watchdog/status"; then
  echo "watchdog|no||process $watchdog was stopped and watches nothing: kill -CONT $watchdog wakes it"
  of_lease no
elif [ -n "$watchdog" ]; then
  began_s=$(($(sed 's/.*) //' "/proc/$watchdog/stat" | cut -d ' ' -f 20) / $(getconf CLK_TCK)))
  echo "watchdog|yes|$(($(told left) + began_s - $(up_s)))|process $watchdog ends the run's processes, and nothing else"
  of_lease yes
else
  echo "watchdog|no||nothing ends the run's processes at the deadline"
fi
case "$(grep -s " rentune:$run\\$" "$HOME/.ssh/authorized_keys")" in
  *expiry-time=*) echo "admitted key|yes||it lets nobody in after the deadline" ;;
  "") echo "admitted key|yes||it is gone, and lets nobody in" ;;
  *) echo "admitted key|no||it lets in for ever" ;;
esac
"""

# Prints name=value lines. GPUs as "name, MiB" by the driver's own tool, separated by semicolons; else what that says is wrong.
NO_DEVICES_RC = 6  # derived: nvidia-smi(1): "a query to find an object was unsuccessful": a driver without a card
FACTS = f"""\
echo "vcpus=$(nproc)"
echo "ram_kib=$(sed -n 's/^MemTotal:[[:space:]]*\\([0-9]*\\).*/\\1/p' /proc/meminfo)"
df -Pk "$HOME" | {{ read -r _; read -r _ _ _ free _; echo "disk_kib=$free"; }}
gpus=
if command -v nvidia-smi > /dev/null; then
  gpus=$(nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits 2>&1)
  case "$?" in
    0) ;;
    {NO_DEVICES_RC}) gpus= ;;
    *) echo "unread=$(echo "$gpus" | head -n 1)"; gpus= ;;
  esac
fi
echo "gpus=$(echo "$gpus" | tr '\\n' ';')"
"""
