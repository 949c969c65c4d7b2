#!/usr/bin/env bash
# The lock of the training stack (standard input) without triton, a gigabyte that only an NVIDIA GPU has a use for.
set -euo pipefail
sed '/^triton==/,/[^\]$/d'
