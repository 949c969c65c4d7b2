"""How drivers, clouds, shops and papers write a card, and which card is meant: 279 spellings of 172 cards, and what is none."""

from __future__ import annotations

import re

import pytest

from catalogs.catalog import read_catalog
from catalogs.names import GpuUnknown, Instead, counted

CATALOG = read_catalog()

MEANT = """
    GB10 = NVIDIA GB10 | DGX Spark | GB10
    Jetson AGX Orin 64GB = NVIDIA Jetson AGX Orin 64GB
    Jetson AGX Orin 32GB = Jetson AGX Orin 32GB
    Jetson AGX Thor = Jetson Thor | NVIDIA Thor
    P40 = Tesla P40 | P40 24GB
    P4 = nvidia-tesla-p4
    P100-PCIE-12GB = Tesla P100-PCIE-12GB
    P100-PCIE-16GB = P100 16GB | nvidia-tesla-p100
    P100-SXM2-16GB = Tesla P100-SXM2-16GB
    M40 24GB = Tesla M40 24GB
    M60 = M60
    K80 = Tesla K80 | nvidia-tesla-k80
    GTX 1060 6GB = GTX 1060 | GeForce GTX 1060 6GB
    GTX 1070 = NVIDIA GeForce GTX 1070
    GTX 1070 Ti = 1070 Ti
    GTX 1080 = gtx1080
    GTX 1080 Ti = 1080ti
    GTX 1660 Ti = GTX 1660 Ti
    Titan X Pascal = NVIDIA TITAN X (Pascal)
    Titan Xp = NVIDIA TITAN Xp
    Titan X Maxwell = GeForce GTX TITAN X
    Titan V = TITAN V
    Titan RTX = TITAN RTX
    RTX 2060 = RTX 2060
    RTX 2060 Super = RTX 2060 SUPER | NVIDIA GeForce RTX 2060 SUPER
    RTX 2060 12GB = RTX 2060 12GB
    RTX 2070 = RTX2070
    RTX 2070 Super = 2070 Super
    RTX 2080 = RTX 2080
    RTX 2080 Super = RTX 2080 Super | 2080S
    RTX 2080 Ti = RTX2080Ti | RTX 2080 Ti 11GB
    RTX 3050 8GB = RTX 3050 | RTX 3050 8GB
    RTX 3060 12GB = RTX 3060 | rtx3060-12g
    RTX 3060 8GB = RTX 3060 8GB
    RTX 3060 Ti = 3060 Ti | NVIDIA GeForce RTX 3060 Ti
    RTX 3070 = RTX 3070 8GB
    RTX 3070 Ti = RTX 3070 Ti
    RTX 3080 10GB = RTX 3080 10G
    RTX 3080 12GB = RTX 3080 12GB
    RTX 3080 Ti = 3080 ti
    RTX 3090 = RTX-3090 | GeForce RTX 3090 24GB
    RTX 3090 Ti = 3090ti
    RTX 3060 Laptop = NVIDIA GeForce RTX 3060 Laptop GPU | RTX 3060 Mobile
    RTX 3070 Laptop = NVIDIA GeForce RTX 3070 Laptop GPU
    RTX 3070 Ti Laptop = RTX 3070 Ti Laptop GPU
    RTX 3080 Laptop 16GB = RTX 3080 Laptop 16GB | RTX 3080M 16GB
    RTX 3080 Ti Laptop = RTX 3080 Ti Mobile | 3080 Ti Laptop
    RTX 4050 Laptop = NVIDIA GeForce RTX 4050 Laptop GPU
    RTX 4060 Laptop = NVIDIA GeForce RTX 4060 Laptop GPU | RTX 4060 Mobile
    RTX 4070 Laptop = 4070 laptop | NVIDIA GeForce RTX 4070 Laptop GPU
    RTX 4080 Laptop = RTX 4080 Laptop
    RTX 4090 Laptop = RTX 4090 Laptop GPU | RTX 4090 Laptop 16GB | 4090M | RTX 4090 mobile
    RTX 4060 = RTX 4060 | RTX 4060 8GB
    RTX 4060 Ti 16GB = 4060ti 16gb | RTX 4060Ti-16G
    RTX 4070 = RTX 4070
    RTX 4070 Super = RTX 4070 SUPER | 4070 super
    RTX 4070 Ti = RTX 4070 Ti
    RTX 4070 Ti Super = RTX 4070 Ti SUPER
    RTX 4080 Super = 4080 SUPER
    RTX 4090 = RTX 4090 | RTX 4090 24G | GeForce 4090
    RTX 4090 D = RTX 4090D | NVIDIA GeForce RTX 4090 D
    RTX 5050 = RTX 5050
    RTX 5060 = RTX 5060
    RTX 5060 Ti 16GB = RTX 5060 Ti 16GB
    RTX 5070 = RTX 5070
    RTX 5070 Ti = 5070 Ti
    RTX 5070 Ti Laptop = NVIDIA GeForce RTX 5070 Ti Laptop GPU
    RTX 5080 Laptop = RTX 5080 Laptop
    RTX 5090 Laptop = RTX 5090 Laptop | NVIDIA GeForce RTX 5090 Laptop GPU | RTX 5090 Mobile
    RTX 5090 = RTX 5090 32GB | NVIDIA GeForce RTX 5090
    RTX 5090 D = 5090 D
    RTX A1000 = RTX A1000
    RTX A2000 12GB = RTX A2000 12GB
    RTX A2000 6GB = NVIDIA RTX A2000 6GB
    RTX A4000 = NVIDIA RTX A4000 | Quadro RTX A4000
    RTX A4500 = RTX A4500
    RTX A5000 = A5000 | Quadro RTX A5000
    RTX A5500 = RTX A5500
    RTX A6000 = NVIDIA RTX A6000 | A6000 48GB
    RTX 6000 Ada = RTX 6000 Ada | RTX 6000 Ada Generation | RTX Ada 6000 | Ada 6000 | A6000 Ada
    RTX 5000 Ada = RTX 5000 Ada
    RTX 4500 Ada = RTX 4500 Ada
    RTX 4000 Ada = RTX 4000 Ada
    RTX 4000 SFF Ada = RTX 4000 SFF Ada
    RTX 2000 Ada = RTX 2000 Ada
    RTX 3500 Ada Laptop = RTX 3500 Ada | NVIDIA RTX 3500 Ada Generation Laptop GPU
    RTX 5000 Ada Laptop = NVIDIA RTX 5000 Ada Generation Laptop GPU
    Quadro P6000 = Quadro P6000 | P6000
    Quadro P5000 = P5000
    Quadro GV100 = Quadro GV100 | GV100
    Quadro RTX 4000 = Quadro RTX 4000
    Quadro RTX 5000 = Quadro RTX 5000
    Quadro RTX 8000 = Quadro RTX 8000
    RTX PRO 4000 = RTX PRO 4000 | NVIDIA RTX PRO 4000 Blackwell
    RTX PRO 4500 = RTX PRO 4500 Blackwell
    RTX PRO 5000 = RTX PRO 5000 Blackwell
    RTX PRO 5000 72GB = RTX PRO 5000 72GB | NVIDIA RTX PRO 5000 72GB Blackwell
    RTX PRO 6000 = NVIDIA RTX PRO 6000 Blackwell Server Edition | RTX PRO 6000 96GB | RTX PRO 6000 Server Edition
    RTX PRO 6000 = nvidia-rtx-pro-6000 | RTX 6000 Pro
    RTX PRO 6000 Workstation = RTX PRO 6000 Workstation Edition | RTX PRO 6000 WS | RTX PRO 6000 WK
    RTX PRO 6000 Max-Q = RTX PRO 6000 Max-Q
    RTX PRO 2000 = RTX PRO 2000 Blackwell
    A2 = NVIDIA A2
    A10 = NVIDIA A10 | A10 24GB
    A10G = NVIDIA A10G
    A16 = A16
    A30 = A30 | A30 24GB
    A40 = NVIDIA A40 | RTX A40 | A40 48GB
    L2 = L2
    L4 = L4 | nvidia-l4 | L4 24GB
    L20 = L20
    L40 = L40
    L40S = L40S | L40S 48GB | RTX L40S | NVIDIA L40S
    A100-SXM-64GB = A100 64GB | NVIDIA A100-SXM-64GB
    A100-SXM4-40GB = NVIDIA A100-SXM4-40GB
    A100-PCIE-40GB = NVIDIA A100-PCIE-40GB | A100 40GB PCIe
    A100-PCIE-80GB = NVIDIA A100 80GB PCIe
    A100-SXM4-80GB = A100 80GB SXM4 | A100 80GB SXM | A100 SXM 80G
    A800-SXM4-80GB = A800 | A800-SXM4-80GB
    A800-PCIE-80GB = NVIDIA A800 80GB PCIe
    A800 40GB = NVIDIA A800 40GB Active | A800-PCIE-40GB
    H100 PCIe = H100 PCIe | NVIDIA H100 PCIe | H100 80GB PCIe
    H100 SXM5 = NVIDIA H100 80GB HBM3 | H100 SXM | H100 SXM5 80GB | H100 80GB SXM | H100 80G SXM5
    H100 NVL = H100 NVL | NVIDIA H100 NVL | H100 NVL 94GB
    H100 SXM5 96GB = H100 96GB | H100 SXM5 96GB
    H800 SXM = H800
    H800 PCIe = H800 PCIe | NVIDIA H800 PCIe
    H20 = H20 | H20 96GB
    H20 141GB = NVIDIA H20-3e | H20 141GB
    H200 SXM = H200 141GB | H200 SXM5 141GB | nvidia-h200-141gb
    H200 NVL = H200 NVL
    GH200 = GH200 | NVIDIA GH200 480GB | GH200 96GB HBM3 | GH200 Grace Hopper Superchip | Grace Hopper
    GH200 144GB = GH200 144G HBM3e
    B100 = B100
    B200 = B200 | NVIDIA B200 | B200 192GB | B200 SXM6 | nvidia-b200
    B300 = B300 | B300 288GB
    GB200 = GB200
    GB300 = GB300
    V100-SXM2-32GB = V100 SXM2 32GB | V100-SXM2-32GB | V100 32GB SXM2
    V100-SXM2-16GB = Tesla V100-SXM2-16GB | V100 SXM 16GB
    V100S-PCIE-32GB = Tesla V100S-PCIE-32GB | V100S
    T4 = T4 | Tesla T4 16GB | nvidia-tesla-t4
    T4G = T4G
    MI50 32GB = MI50 32GB
    MI60 = MI60
    MI100 = MI100 | AMD Instinct MI100
    MI210 = MI210 | AMD Instinct MI210
    MI250 = MI250
    MI250X = MI250X | AMD Instinct MI250X | MI250X GCD
    MI300A = MI300A
    MI300X = MI300X | AMD Instinct MI300X OAM | MI300X 192GB
    MI325X = MI325X
    MI355X = MI355X
    Radeon RX 6800 XT = RX 6800 XT
    Radeon RX 6900 XT = AMD Radeon RX 6900 XT
    Radeon RX 6950 XT = 6950 XT
    Radeon RX 7600 XT = RX 7600 XT
    Radeon RX 7800 XT = RX 7800 XT
    Radeon RX 7900 XT = Radeon RX 7900 XT
    Radeon RX 7900 XTX = RX 7900 XTX
    Radeon RX 7900 GRE = 7900 GRE
    Radeon RX 9070 XT = RX 9070 XT | AMD Radeon RX 9070 XT
    Radeon AI PRO R9700 = Radeon AI PRO R9700 | AMD Radeon AI PRO R9700 | R9700
    Radeon PRO W7800 32GB = W7800
    Radeon PRO W7800 48GB = AMD Radeon PRO W7800 48GB
    Radeon PRO W7900 = W7900
    Gaudi2 = Gaudi2
    Gaudi3 = Gaudi 3 | Intel Gaudi 3
    Arc A770 16GB = Intel Arc A770 | Arc A770 16GB | Intel(R) Arc(TM) A770 Graphics
    Arc B580 = Arc B580
    Arc Pro B60 = Intel Arc Pro B60 | B60
    Data Center GPU Max 1550 = Intel Data Center GPU Max 1550
    Data Center GPU Max 1100 = Max 1100 | Intel(R) Data Center GPU Max 1100
"""
# Words for several cards, in the ways of those who sell them
AMBIGUOUS = """
    Tesla M40; Titan X; RTX 3080; NVIDIA GeForce RTX 3080 Laptop GPU; RTX 4060 Ti; RTX 5060 Ti; RTX A2000; RTX 6000; RTX 4000;
    RTX PRO 6000 Blackwell; A100; A100 40GB; A100 80GB; A100-80G; nvidia-a100-80gb; nvidia-tesla-a100; Tesla A100;
    A100 80GB HBM2e; A100 Tensor Core GPU; A100 GPU; A100-SXM; H100; H100 80GB; nvidia-h100-80gb; nvidia-h100-mega-80gb;
    H100 94GB; H200; NVIDIA H200; V100; V100 32GB; AMD Instinct MI50
"""


def spellings() -> list[tuple[str, str]]:
    rows = (line.partition(" = ") for line in MEANT.strip().splitlines())
    return [(written, card.strip()) for card, _, several in rows for written in several.split(" | ")]


@pytest.mark.parametrize(("written", "card"), spellings())
def test_a_card_is_known_however_it_is_written(written: str, card: str) -> None:
    match = CATALOG.gpu(written)
    assert (match.gpu.name, match.warning) == (card, None)


@pytest.mark.parametrize("word", [word.strip() for word in AMBIGUOUS.replace("\n", " ").split(";")])
def test_a_word_for_several_cards_is_answered_with_one_and_a_warning(word: str) -> None:
    match = CATALOG.gpu(word)
    assert match.warning is not None
    assert match.also
    assert all(match.gpu.memory_gib <= CATALOG.gpus[other].memory_gib for other in match.also)


@pytest.mark.parametrize(
    "written",
    """
    RTX 2080 Ti 22GB; RTX 3070 16GB; RTX 3080 20GB; RTX 4090 48GB; RTX A6000 Ada; RTX 4000 Ada Laptop; A40-48Q; A100X;
    H100 64GB; T400; Gaudi; Gaudi 1; AMD Radeon Graphics; RTX 4090 Super; A6000 24GB
    """.replace("\n", " ").split(";"),
)
def test_a_card_that_is_like_another_is_not_taken_for_it(written: str) -> None:
    """With other memory, of a laptop, of a virtual machine: each is another card, and the nearest are named."""
    with pytest.raises(GpuUnknown, match=r"in the catalog$") as refused:
        CATALOG.gpu(written.strip())
    assert refused.value.instead is Instead.NEAREST
    assert str(refused.value.hint).startswith("nearest: ")


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("A100 MIG 3g.20gb", "a slice of a card has no name here: say its memory alone, --gpu-memory-gib 20"),
        ("H100 1g.10gb", "a slice of a card has no name here: say its memory alone, --gpu-memory-gib 10"),
        ("NVIDIA A100-SXM4-40GB MIG", "a slice of a card has no name here: say its memory alone, --gpu-memory-gib"),
        ("8xA100", "write the card alone, A100, and how many with --num-gpus 8"),
        ("2x RTX 4090", "write the card alone, RTX 4090, and how many with --num-gpus 2"),
        ("A100 x8", "write the card alone, A100, and how many with --num-gpus 8"),
        ("TPU v4", "cards of NVIDIA, AMD and Intel are known, nothing of Google's TPUs"),
        ("v5e", "cards of NVIDIA, AMD and Intel are known, nothing of Google's TPUs"),
        ("Ascend 910B", "cards of NVIDIA, AMD and Intel are known, nothing of Huawei's processors"),
        ("M2 Ultra", "cards of NVIDIA, AMD and Intel are known, nothing of Apple's chips"),
        ("trn1.32xlarge", "cards of NVIDIA, AMD and Intel are known, nothing of Amazon's accelerators"),
    ],
)
def test_what_is_no_card_is_told_what_to_write_instead(written: str, hint: str) -> None:
    with pytest.raises(GpuUnknown, match=re.escape(f'no GPU "{written}" in the catalog') + "$") as refused:
        CATALOG.gpu(written)
    assert refused.value.instead is Instead.OTHERWISE
    assert str(refused.value.hint).startswith(hint)


@pytest.mark.parametrize(
    ("written", "instead", "hint"),
    [
        ("NC24ads_A100_v4", Instead.NEAREST, "nearest: A100"),
        ("Standard_ND96isr_H100_v5", Instead.NEAREST, "nearest: H100"),
        ("RTX 4090 v2", Instead.NEAREST, "nearest: RTX 4090"),
        ("g4dn.metal", None, ""),
        ("p5.metal v5", None, ""),
        ("input", None, ""),
        ("browser", None, ""),
        ("xtpux", None, ""),
        ("remoore", None, ""),
    ],
)
def test_a_part_of_a_word_makes_nobody_s_chip_of_it(written: str, instead: Instead | None, hint: str) -> None:
    """Nor does the version at the end of a machine's name: where it holds the name of a card that one is the nearest."""
    with pytest.raises(GpuUnknown) as refused:
        CATALOG.gpu(written)
    assert refused.value.instead is not Instead.OTHERWISE
    assert instead in (None, refused.value.instead)
    assert str(refused.value.hint).startswith(hint)


@pytest.mark.parametrize(
    ("text", "number", "what"),
    [
        ("8xA100", 8, "A100"),
        ("2x RTX 4090", 2, "RTX 4090"),
        ("2x3090 Ti", 2, "3090 Ti"),
        ("A100 x8", 8, "A100"),
        ("4 × 24GB", 4, "24GB"),
        ("99999x24GB", 99_999, "24GB"),
    ],
)
def test_a_number_of_cards_is_read_in_one_way(text: str, number: int, what: str) -> None:
    """Where cards are told with their number, and where only their name is asked for."""
    assert counted(text) == (number, what)
    with pytest.raises(GpuUnknown) as refused:
        CATALOG.gpu(text)
    assert refused.value.hint == f"write the card alone, {what}, and how many with --num-gpus {number}"


@pytest.mark.parametrize("text", ["x24", "4x", "-1x24GB", "Titan X 12GB", "RX 7900 XTX 24GB", "MI300X", ""])
def test_what_holds_no_number_of_cards_is_not_counted(text: str) -> None:
    assert counted(text) is None


@pytest.mark.parametrize(
    ("name", "memory_mib", "card"),
    [
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 16_384, "RTX 3080 Laptop 16GB"),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 8_192, "RTX 3080 Laptop 8GB"),
        ("NVIDIA GeForce RTX 3060", 8_192, "RTX 3060 8GB"),
        ("NVIDIA RTX A2000", 6_138, "RTX A2000 6GB"),
        ("Tesla M40 24GB", 22_945, "M40 24GB"),
        ("NVIDIA H20-3e", 143_771, "H20 141GB"),
        ("NVIDIA GB10", 122_572, "GB10"),
        ("NVIDIA RTX 4000 Ada Generation Laptop GPU", 12_282, None),
    ],
)
def test_a_driver_s_name_is_a_card_by_its_memory(name: str, memory_mib: float, card: str | None) -> None:
    assert CATALOG.gpu_of_driver(name, memory_mib) == card


def test_a_card_that_uses_its_machine_s_memory_has_no_pcie_link() -> None:
    """What is copied is read and written in one memory, at most at its bandwidth, both ways together."""
    shared = [gpu for gpu in CATALOG.gpus.values() if gpu.memory_type == "LPDDR"]
    assert {gpu.name for gpu in shared} == {"GB10", "Jetson AGX Orin 32GB", "Jetson AGX Orin 64GB", "Jetson AGX Thor"}
    for gpu in shared:
        assert (gpu.pcie_generation, gpu.host_link_gb_per_s) == (None, gpu.memory_bandwidth_gb_per_s), gpu.name


def test_cards_that_torch_has_no_bfloat16_or_packed_weights_for_say_so() -> None:
    """The library bitsandbytes asks for compute capability 6.0; RDNA2 and GCN have no products in bfloat16."""
    for gpu in CATALOG.gpus.values():
        if gpu.compute_capability is not None and gpu.compute_capability < (6, 0):
            assert gpu.bitsandbytes == "no", gpu.name
        if gpu.architecture in ("GCN5", "RDNA2"):
            assert (gpu.bf16, gpu.flash_attention) == (False, "no"), gpu.name
