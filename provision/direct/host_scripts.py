"""What is run on a user's host, as POSIX shell. Everything of ours lies below ~/.rentune, but for one line that admits a key.

Processes are known by `RENTUNE_BOXES` (the folder of boxes) and `RENTUNE_BOX` (the run id) in their environment, the key
by its comment `rentune:<run id>`.
"""

from __future__ import annotations

MARKED = """\
boxes="$HOME/.rentune/boxes"
keys="$HOME/.ssh/authorized_keys"
marked() {
  for each in $(grep -slxzF "RENTUNE_BOX=$1" /proc/[0-9]*/environ); do
    grep -sqxzF "RENTUNE_BOXES=$boxes" "$each" || continue
    each=${each#/proc/}; echo "${each%/environ}"
  done
}
"""

# Variable: run. Prints the folder; fails when it is there already.
MAKE_FOLDER = f"""\
{MARKED}
umask 077
mkdir -p "$boxes" && mkdir "$boxes/$run" && echo "$boxes/$run"
"""

# Variables: run, key ("type base64"), ends_at (Unix time). The key ends by itself: what nobody removes lets nobody in
# after the deadline.
ADMIT = f"""\
set -e
{MARKED}
umask 077
mkdir -p "$HOME/.ssh"
[ ! -s "$keys" ] || [ -z "$(tail -c 1 "$keys")" ] || echo >> "$keys"
until=$(date -d "@$ends_at" +%Y%m%d%H%M%S)
echo "restrict,expiry-time=\\"$until\\" $key rentune:$run" >> "$keys"
"""

# Variables: left (seconds), RENTUNE_BOX and RENTUNE_TASK from the environment. By uptime: a clock that is set back
# extends nothing; in naps, since a sleep does not count the hours of a suspended machine. Spares its own task.
WATCH = f"""\
{MARKED}
uptime_s() {{ sed 's/[.].*//' /proc/uptime; }}
ends_at=$(($(uptime_s) + left))
while left=$((ends_at - $(uptime_s))) && [ "$left" -gt 0 ]; do sleep "$((left > 60 ? 60 : left))"; done
for signal in TERM KILL; do
  for each in $(marked "$RENTUNE_BOX"); do
    grep -sqxzF "RENTUNE_TASK=$RENTUNE_TASK" "/proc/$each/environ" || kill -"$signal" "$each" 2> /dev/null
  done
  [ "$signal" = KILL ] || sleep 2
done
"""

# Variable: run. Over and over until no process is left, since one may start another.
CLEAN = f"""\
{MARKED}
left=100
while [ "$left" -gt 0 ] && [ -n "$(marked "$run")" ]; do
  for each in $(marked "$run"); do kill -KILL "$each" 2> /dev/null; done
  sleep 0.05
  left=$((left - 1))
done
rm -rf "${{boxes:?}}/$run"
rmdir "$boxes" "$HOME/.rentune" 2> /dev/null
if grep -sq " rentune:$run\\$" "$keys"; then
  grep -v " rentune:$run\\$" "$keys" > "$keys.rentune"
  cat "$keys.rentune" > "$keys"
  rm -f "$keys.rentune"
fi
"""

# Prints "kind run_id id" for all runs.
LIST = f"""\
{MARKED}
for each in "$boxes"/*; do
  [ ! -d "$each" ] || echo "folder ${{each##*/}} $each"
done
for each in $(grep -slxzF "RENTUNE_BOXES=$boxes" /proc/[0-9]*/environ); do
  run=$(tr '\\0' '\\n' 2> /dev/null < "$each" | sed -n 's/^RENTUNE_BOX=//p')
  pid=${{each#/proc/}}
  [ -z "$run" ] || echo "process $run ${{pid%/environ}}"
done
sed -n 's/.* rentune:\\([^ ]*\\)$/key_line \\1 authorized_keys/p' "$keys" 2> /dev/null
true
"""

# Prints name=value lines. GPUs as "name, MiB" by the driver's own tool, separated by semicolons.
FACTS = """\
echo "vcpus=$(nproc)"
echo "ram_kib=$(sed -n 's/^MemTotal:[[:space:]]*\\([0-9]*\\).*/\\1/p' /proc/meminfo)"
df -Pk "$HOME" | { read -r _; read -r _ _ _ free _; echo "disk_kib=$free"; }
gpus=$(nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits 2> /dev/null | tr '\\n' ';')
echo "gpus=$gpus"
"""
