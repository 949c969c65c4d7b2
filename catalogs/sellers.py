"""What sellers call their machines where the catalog's word is another: one table, read by who rents and by who reads lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from catalogs.hardware import Offer

RUNPOD_TYPE: Final = re.compile(r"(\d+)x-(.+)-(secure|community)")  # as the catalog names what RunPod rents

# Machines of the price list that no account can simply order, by seller: docs.digitalocean.com, "GPU Droplets" (read 2026-11),
# has them by contract alone, under slugs of the contract's own.
BY_CONTRACT: Final[Mapping[str, frozenset[str]]] = {"digitalocean": frozenset({"1x-b300", "1x-mi325x", "1x-mi350x"})}

# The catalog's word for a GPU -> RunPod's id (docs.runpod.io/references/gpu-types and its live list of 2026-08-27). The
# trainer's stack is CUDA's, so AMD's cards have no row.
RUNPOD_GPU_IDS: Final = {
    "a100-pcie-80": "NVIDIA A100 80GB PCIe",
    "a100-sxm-40": "NVIDIA A100-SXM4-40GB",
    "a100-sxm-80": "NVIDIA A100-SXM4-80GB",
    "a40": "NVIDIA A40",
    "b200": "NVIDIA B200",
    "b300": "NVIDIA B300 SXM6 AC",
    "h100-nvl": "NVIDIA H100 NVL",
    "h100-pcie": "NVIDIA H100 PCIe",
    "h100-sxm": "NVIDIA H100 80GB HBM3",
    "h200": "NVIDIA H200",
    "h200-nvl": "NVIDIA H200 NVL",
    "l4": "NVIDIA L4",
    "l40": "NVIDIA L40",
    "l40s": "NVIDIA L40S",
    "rtx-3090": "NVIDIA GeForce RTX 3090",
    "rtx-3090-ti": "NVIDIA GeForce RTX 3090 Ti",
    "rtx-4090": "NVIDIA GeForce RTX 4090",
    "rtx-5080": "NVIDIA GeForce RTX 5080",
    "rtx-5090": "NVIDIA GeForce RTX 5090",
    "rtx-6000-ada": "NVIDIA RTX 6000 Ada Generation",
    "rtx-a4000": "NVIDIA RTX A4000",
    "rtx-a5000": "NVIDIA RTX A5000",
    "rtx-a6000": "NVIDIA RTX A6000",
    "rtx-pro-4500": "NVIDIA RTX PRO 4500 Blackwell",
    "rtx-pro-6000-maxq": "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
    "rtx-pro-6000-server": "NVIDIA RTX PRO 6000 Blackwell Server Edition",
    "rtx-pro-6000-wk": "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
    "v100-pcie": "Tesla V100-PCIE-16GB",
    "v100-sxm2": "Tesla V100-SXM2-16GB",
}


def by_contract(offer: Offer) -> bool:
    """Whether no account can simply order it."""
    return offer.instance_type in BY_CONTRACT.get(offer.provider, ())
