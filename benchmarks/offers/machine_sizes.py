"""How large the clouds' machines are: AWS from moto's export of its API, Azure and Google Cloud from tables and names."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Machine:
    """What a box is made of."""

    gpu: str = ""
    num_gpus: Decimal = Decimal(0)
    vcpus: float | None = None
    ram_gib: float | None = None
    local_disk_gib: float | None = None
    interconnect: str = "unknown"
    cpu_architecture: str = "x86_64"
    source: str = ""


def interconnect_of(gpu: str, num_gpus: Decimal) -> str:
    """Between the GPUs of one box. SXM boards are wired by NVLink; of PCIe cards only those without a bridge are certain."""
    if num_gpus <= 1:
        return "unknown"
    if re.search(r"SXM|^B[23]00|^GB[23]00|^MI3", gpu):
        return "nvlink"
    return "unknown" if re.search(r"A100|H100|H200|A30|A40|A6000|A5000|3090|MI250", gpu) else "pcie"


# ── AWS: moto's instance_types.json.gz, an export of DescribeInstanceTypes ──────────────────────────────────────────────
AWS_GPUS = {  # (name in the API, MiB of the whole card) -> our name
    ("T4", 16384): "T4",
    ("T4g", 16384): "T4G",
    ("A10G", 22888): "A10G",
    ("L4", 22888): "L4",
    ("L40S", 45776): "L40S",
    ("RTX PRO 4500", 32768): "RTX PRO 4500",
    ("RTX PRO Server 6000", 98304): "RTX PRO 6000",
    ("V100", 32768): "V100-SXM2-32GB",
    ("A100", 40960): "A100-SXM4-40GB",
    ("A100", 81920): "A100-SXM4-80GB",
    ("H100", 81920): "H100 SXM5",
    ("H200", 144384): "H200 SXM",
    ("B200", 183359): "B200",
    ("B300", 275040): "B300",
}
AWS_BY_HAND = {  # gone from the API's export, still on the price list; sizes from the EC2 user guide
    "p3.2xlarge": Machine("V100-SXM2-16GB", Decimal(1), 8, 61, source="aws-user-guide"),
    "p3.8xlarge": Machine("V100-SXM2-16GB", Decimal(4), 32, 244, None, "nvlink", source="aws-user-guide"),
    "p3.16xlarge": Machine("V100-SXM2-16GB", Decimal(8), 64, 488, None, "nvlink", source="aws-user-guide"),
}
GIB_PER_GB = 1e9 / 2**30


def aws_machines() -> dict[str, Machine]:
    """Every instance type that moto knows, by name."""
    import moto

    path = Path(moto.__file__).parent / "ec2" / "resources" / "instance_types.json.gz"
    return {name: _aws_machine(facts) for name, facts in json.loads(gzip.decompress(path.read_bytes())).items()} | AWS_BY_HAND


def _aws_machine(facts: dict[str, Any]) -> Machine:
    gpus = facts.get("GpuInfo", {}).get("Gpus", [])
    share = Decimal(str(gpus[0]["GpuPartitionSize"])) if gpus else Decimal(0)
    num_gpus = (gpus[0]["LogicalGpuCount"] * share if share < 1 else Decimal(gpus[0]["Count"])) if gpus else Decimal(0)
    name = AWS_GPUS.get((gpus[0]["Name"], round(gpus[0]["MemoryInfo"]["SizeInMiB"] / share)), "") if gpus else ""
    disk_gb = (facts.get("InstanceStorageInfo") or {}).get("TotalSizeInGB")
    return Machine(
        gpu=name,
        num_gpus=num_gpus,
        vcpus=facts["VCpuInfo"]["DefaultVCpus"],
        ram_gib=facts["MemoryInfo"]["SizeInMiB"] / 1024,
        local_disk_gib=round(disk_gb * GIB_PER_GB) if disk_gb else None,
        interconnect=interconnect_of(name, num_gpus),
        cpu_architecture="arm64" if "arm64" in facts["ProcessorInfo"]["SupportedArchitectures"] else "x86_64",
        source="aws-instance-types",
    )


# ── Azure: sizes from Microsoft's documentation of each series; temporary disks differ by generation and are left out ───
def _azure(gpu: str, rows: str, interconnect: str = "unknown", cpu: str = "x86_64") -> dict[str, Machine]:
    machines = {}
    for row in rows.split(","):
        size, num_gpus, vcpus, ram_gib = row.split()
        machines[f"Standard_{size}"] = Machine(
            gpu, Decimal(num_gpus), float(vcpus), float(ram_gib), None, interconnect, cpu, "azure-sizes"
        )
    return machines


AZURE_MACHINES = (
    _azure("", "D4s_v5 0 4 16,D8s_v5 0 8 32,E8s_v5 0 8 64")
    | _azure("T4", "NC4as_T4_v3 1 4 28,NC8as_T4_v3 1 8 56,NC16as_T4_v3 1 16 110")
    | _azure("T4", "NC64as_T4_v3 4 64 440", "pcie")
    | _azure("V100-PCIE-16GB", "NC6s_v3 1 6 112")
    | _azure("V100-PCIE-16GB", "NC12s_v3 2 12 224,NC24s_v3 4 24 448,NC24rs_v3 4 24 448", "pcie")
    | _azure("V100-SXM2-32GB", "ND40rs_v2 8 40 672", "nvlink")
    | _azure("A10", "NV6ads_A10_v5 0.166667 6 55,NV12ads_A10_v5 0.333333 12 110,NV18ads_A10_v5 0.5 18 220")
    | _azure("A10", "NV36ads_A10_v5 1 36 440,NV36adms_A10_v5 1 36 880")
    | _azure("A10", "NV72ads_A10_v5 2 72 880", "pcie")
    | _azure("A100-PCIE-80GB", "NC24ads_A100_v4 1 24 220,NC48ads_A100_v4 2 48 440,NC96ads_A100_v4 4 96 880")
    | _azure("A100-SXM4-40GB", "ND96asr_v4 8 96 900", "nvlink")
    | _azure("A100-SXM4-80GB", "ND96amsr_A100_v4 8 96 1900", "nvlink")
    | _azure("H100 NVL", "NC40ads_H100_v5 1 40 320,NCC40ads_H100_v5 1 40 320,NC80adis_H100_v5 2 80 640")
    | _azure("H100 SXM5", "ND96is_H100_v5 8 96 1900,ND96isr_H100_v5 8 96 1900", "nvlink")
    | _azure("H200 SXM", "ND96isr_H200_v5 8 96 1850", "nvlink")
    | _azure("MI300X", "ND96is_MI300X_v5 8 96 1850,ND96isr_MI300X_v5 8 96 1850", "nvlink")
    | _azure("GB200", "ND128isr_NDR_GB200_v6 4 128 900", "nvlink", "arm64")
)

# ── Google Cloud: the type names the GPU's family; vCPUs and GiB as Google's page of each series states them ────────────
GCP_GPUS = {"a2-highgpu": "A100-SXM4-40GB", "a2-megagpu": "A100-SXM4-40GB", "a2-ultragpu": "A100-SXM4-80GB", "a3": "H100 SXM5"}
GCP_A2 = {1: (12, 85), 2: (24, 170), 4: (48, 340), 8: (96, 680), 16: (96, 1360)}
GCP_G2_GPUS = {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 32: 1, 48: 4, 96: 8}
GCP_G4_RAM_GIB = {6: 22, 12: 45, 24: 90, 48: 180, 96: 360, 192: 720, 384: 1440}
GCP_RAM_PER_VCPU = {"standard": 4, "highmem": 8}


def gcp_machine(instance_type: str) -> Machine | None:
    """A machine type by its name; None for a family that is not known here."""
    series, shape, size = instance_type.split("-", 2)
    if series in ("a2", "a3"):
        return _gcp_accelerated(series, shape, int(size.removesuffix("g")))
    if not size.isdigit():
        return None
    vcpus = int(size)
    if series == "g2":
        return _gcp("L4", Decimal(GCP_G2_GPUS[vcpus]), vcpus, vcpus * 4, None)
    if series == "g4":
        return _gcp("RTX PRO 6000", Decimal(vcpus) / 48, vcpus, GCP_G4_RAM_GIB[vcpus], None)
    return _gcp("", Decimal(0), vcpus, vcpus * GCP_RAM_PER_VCPU[shape], None)


def _gcp_accelerated(series: str, shape: str, num_gpus: int) -> Machine:
    gpu = GCP_GPUS[series] if series == "a3" else GCP_GPUS[f"{series}-{shape}"]
    if series == "a3":  # 26 vCPUs, 234 GiB and two local SSDs of 375 GiB for each GPU
        return _gcp(gpu, Decimal(num_gpus), 26 * num_gpus, 234 * num_gpus, 750 * num_gpus)
    vcpus, ram_gib = GCP_A2[num_gpus]
    ultra = shape == "ultragpu"  # twice the RAM, one local SSD for each GPU
    return _gcp(gpu, Decimal(num_gpus), vcpus, ram_gib * (2 if ultra else 1), 375 * num_gpus if ultra else None)


def _gcp(gpu: str, num_gpus: Decimal, vcpus: float, ram_gib: float, disk_gib: float | None) -> Machine:
    return Machine(gpu, num_gpus, vcpus, ram_gib, disk_gib, interconnect_of(gpu, num_gpus), "x86_64", "gcp-machine-types")
