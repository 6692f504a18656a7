import json
from datetime import date
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from llmplan.documents import load_document, shipped_folder
from llmplan.errors import DocumentError, InputError, UnknownNameError
from llmplan.hardware.catalogue import (
    MAX_COUNT,
    default_node,
    device_names,
    device_of_stem,
    list_devices,
    list_nodes,
    load_device,
    load_node,
    matching_key,
    node_names,
    parse_gpus,
)
from llmplan.hardware.device import GpuGroup, Topology
from llmplan.hardware.reading import read_device, read_node
from llmplan.hardware.spec import DeviceSpec, device_schema, node_schema
from llmplan.units import GIB, Provenance
from llmplan.validation import validated

FOLDER = shipped_folder("hardware")
LABELS = yaml.safe_load((Path(__file__).parent / "oracles/gpu_labels.yaml").read_text("utf-8"))
DEVICE_LINES = [
    "vendor: Acme",
    "name: Anvil",
    "architecture: Iron",
    "status: available",
    "memory:",
    "  marketing_gb: 80",
    "  type: HBM3",
    "  bandwidth_bytes_per_s: 3350.0e+9",
    "source: the Acme sheet",
    "source_date: 2026-01-02",
]


def device_file(folder, *extra, **replaced):
    """A device file; ``replaced`` maps a key to the line that takes its place."""
    lines = [replaced.get(line.split(":")[0].strip(), line) for line in DEVICE_LINES]
    path = folder / "anvil.yaml"
    path.write_text("\n".join([*lines, *extra]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", device_names())
def test_every_device_file_is_valid_and_sourced(name):
    device = load_device(name)

    assert device.slug == name
    assert device.source
    assert device.source_date
    assert 0 < device.capacity_bytes <= (device.total_bytes or device.capacity_bytes)
    first_line = (FOLDER / "devices" / f"{name}.yaml").read_text("utf-8").splitlines()[0]
    assert first_line == "# yaml-language-server: $schema=../device.schema.json"


@pytest.mark.parametrize("name", node_names())
def test_every_node_file_is_valid_and_sourced(name):
    node = load_node(name)

    assert node.slug == name
    assert node.source
    assert node.source_date
    assert node.device in device_names()
    first_line = (FOLDER / "nodes" / f"{name}.yaml").read_text("utf-8").splitlines()[0]
    assert first_line == "# yaml-language-server: $schema=../node.schema.json"


@pytest.mark.parametrize("folder", ["devices", "nodes"])
def test_no_two_files_share_a_name(folder):
    loaded = list_devices() if folder == "devices" else list_nodes()
    owners = {(matching_key(name), d.slug) for d in loaded for name in (d.slug, d.name, *d.aliases)}

    assert len({key for key, _ in owners}) == len(owners)


def test_a_device_has_at_most_one_default_node():
    defaults = [node.device for node in list_nodes() if node.default_for_device]

    assert len(defaults) == len(set(defaults))


@pytest.mark.parametrize("node", list_nodes(), ids=lambda node: node.slug)
def test_a_node_offers_no_more_than_its_devices_can_send(node):
    device = load_device(node.device)
    published = device.link.unidirectional_bytes_per_s if device.link else None

    if published and node.link and node.topology is not Topology.PCIE:
        # rel=0.01: sheets give 1,075 GB/s for both directions and 76.8 GB/s for one of seven links
        assert node.link.unidirectional_bytes_per_s <= published * 1.01
    if node.nics and node.nic_bits_per_s and node.topology is not Topology.FULL_MESH:
        each = node.nics * node.nic_bits_per_s / 8 / node.devices
        assert node.scale_out_bytes_per_s == pytest.approx(each)


@pytest.mark.parametrize("node", list_nodes(), ids=lambda node: node.slug)
def test_a_pair_has_its_share_of_the_links(node):
    if node.topology is Topology.SWITCHED:
        assert node.link.pair_bytes_per_s == node.link.unidirectional_bytes_per_s
    if node.topology is Topology.FULL_MESH:
        # rel=0.01: published totals of seven links are rounded
        whole = node.link.pair_bytes_per_s * (node.devices - 1)
        assert whole == pytest.approx(node.link.unidirectional_bytes_per_s, rel=0.01)


@pytest.mark.parametrize(
    ("label", "slug"),
    [(label, slug) for slug, labels in LABELS["devices"].items() for label in labels],
)
def test_labels_in_public_tables_name_one_device(label, slug):
    assert load_device(label).slug == slug


@pytest.mark.parametrize("label", LABELS["refused"])
def test_labels_of_several_devices_or_none_are_refused(label):
    with pytest.raises(InputError):
        parse_gpus(label)


@pytest.mark.parametrize(("stem", "slug"), LABELS["stems"].items())
def test_a_file_stem_begins_with_its_device(stem, slug):
    assert device_of_stem(stem).slug == slug


def test_a_stem_without_a_device_is_refused():
    with pytest.raises(UnknownNameError, match="add-a-gpu"):
        device_of_stem("toaster_gemm")


def test_capacity_is_what_the_driver_gives_a_process():
    h100 = load_device("h100-sxm")

    assert h100.capacity_bytes / GIB == pytest.approx(79.19, abs=0.01)
    assert h100.capacity_provenance is Provenance.MEASURED
    assert h100.total_bytes > h100.capacity_bytes
    assert h100.marketing_gb == 80


def test_capacity_falls_back_to_the_total_and_then_to_the_name():
    a100, mi325x = load_device("a100-80gb-sxm"), load_device("mi325x")

    assert (a100.capacity_bytes, a100.capacity_provenance) == (80 * GIB, Provenance.ASSUMED)
    assert (mi325x.capacity_bytes, mi325x.capacity_provenance) == (256 * 10**9, Provenance.ASSUMED)


def test_rates_are_dense_and_absent_where_unknown():
    h100 = load_device("h100-sxm")

    assert h100.peak_flops_per_s("bf16") == 989e12
    assert h100.measured_flops_per_s("bf16") == 794.5e12
    assert h100.peak_flops_per_s("fp4") is None
    assert h100.bandwidth_bytes_per_s == 3350e9
    assert h100.link.unidirectional_bytes_per_s == 450e9


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("H100", "h100-sxm"),
        ("A100", "a100-80gb-sxm"),
        ("MI300X", "mi300x"),
        ("h100_sxm", "h100-sxm"),
        ("  nvidia  H100 SXM ", "h100-sxm"),
        ("GeForce RTX4090", "rtx-4090"),
        ("Tesla V100-SXM2-16GB", "v100-16gb-sxm"),
        ("AMD Instinct MI300X", "mi300x"),
        ("Intel Gaudi 3", "gaudi3"),
    ],
)
def test_names_without_regard_to_case_separators_and_vendor(text, slug):
    assert load_device(text).slug == slug


@pytest.mark.parametrize(
    ("text", "nodes", "per_node", "slug"),
    [
        ("H100", 1, 1, "h100-sxm"),
        ("8xH100", 1, 8, "h100-sxm"),
        ("8 x h100-sxm", 1, 8, "h100-sxm"),
        ("8×MI300X", 1, 8, "mi300x"),
        ("2n8xH200", 2, 8, "h200-sxm"),
        ("2N6XH100", 2, 6, "h100-sxm"),
        ("16xH100", 2, 8, "h100-sxm"),
        ("144xGB200", 2, 72, "gb200"),
        ("2xGB10", 2, 1, "gb10"),
        ("10xA40", 1, 10, "a40"),
    ],
)
def test_gpu_argument(text, nodes, per_node, slug):
    group = parse_gpus(text)

    assert (group.nodes, group.per_node, group.device.slug) == (nodes, per_node, slug)
    assert group.count == nodes * per_node


def test_gpu_argument_names_the_default_node():
    assert parse_gpus("8xH100").node.slug == "hgx-h100"
    assert parse_gpus("8xH100").node.in_network_reduction
    assert parse_gpus("A40").node is None


@given(
    device=st.sampled_from(device_names()).map(load_device),
    nodes=st.integers(1, 1000),
    per_node=st.integers(1, 100),
)
def test_a_written_group_reads_back_the_same(device, nodes, per_node):
    node = default_node(device)
    group = GpuGroup(nodes, min(per_node, node.devices) if node else per_node, device, node)

    assert parse_gpus(str(group)) == group


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no GPU"),
        ("8x", "names no GPU"),
        ("0xH100", "0 is no count"),
        ("-3xH100", "-3 is no count"),
        ("1.5xH100", "1.5 is no count"),
        ("0n8xH100", "0 is no count"),
        (f"{MAX_COUNT + 1}xH100", "is no count"),
        ("9" * 5000 + "xH100", "is no count"),
        (f"{MAX_COUNT}n2xA40", "more than 100,000"),
        ("12xH100", "for example 2n6xh100-sxm"),
        ("2n16xH100", "for example 4n8xh100-sxm"),
        ("2nH100", "unknown GPU"),
        ("../../h100-sxm", "unknown GPU"),
    ],
)
def test_gpu_arguments_that_cannot_be_meant(text, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_gpus(text)

    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "nearest"), [("h100-smx", "h100-sxm"), ("MI30OX", "mi300x"), ("rtx4900", "rtx-4090")]
)
def test_an_unknown_gpu_is_answered_with_the_nearest(text, nearest):
    with pytest.raises(UnknownNameError, match=nearest) as caught:
        load_device(text)

    assert "docs/add-a-gpu.md" in str(caught.value)


def test_nodes_go_by_alias_and_unknown_ones_are_named():
    assert load_node("p5.48xlarge").slug == "aws-p5"
    assert load_node("DGX H100").slug == "hgx-h100"
    with pytest.raises(UnknownNameError, match="unknown node type 'hgx-h101'") as caught:
        load_node("hgx-h101")

    assert "hgx-h100" in caught.value.nearest


@pytest.mark.parametrize(("kind", "schema"), [("device", device_schema), ("node", node_schema)])
def test_schema_files_are_not_stale(kind, schema):
    written = (FOLDER / f"{kind}.schema.json").read_text("utf-8")

    assert written == json.dumps(schema(), indent=2) + "\n"


@pytest.mark.parametrize(("kind", "schema"), [("device", device_schema), ("node", node_schema)])
def test_files_follow_the_schema_that_editors_read(kind, schema):
    validator = Draft202012Validator(schema())

    for path in (FOLDER / f"{kind}s").glob("*.yaml"):
        data = load_document(path).data
        plain = json.loads(json.dumps(data, default=date.isoformat))
        assert not [error.message for error in validator.iter_errors(plain)], path.name


def test_a_device_file_of_ones_own(tmp_path):
    device = read_device(device_file(tmp_path))

    assert device.slug == "anvil"
    assert (device.capacity_bytes, device.capacity_provenance) == (80 * 10**9, Provenance.ASSUMED)
    assert device.source_date == "2026-01-02"
    assert device.link is None


def test_a_rate_may_be_written_without_the_plus_that_yaml_1_1_wants(tmp_path):
    path = device_file(tmp_path, bandwidth_bytes_per_s="  bandwidth_bytes_per_s: 3.35e12")

    assert read_device(path).bandwidth_bytes_per_s == 3.35e12


@pytest.mark.parametrize(
    ("key", "line", "where", "what"),
    [
        ("vendor", "vender: Acme", "anvil.yaml:1, key vender", "Did you mean vendor?"),
        ("marketing_gb", "  marketing_gib: 80", ":6, key memory.marketing_gib", "marketing_gb"),
        ("status", "status: sold", ":4, key status", "available, announced"),
        ("status", "status: availabel", ":4, key status", "Did you mean available?"),
        ("type", "", ":5, key memory.type", "is missing. It states: Memory technology"),
        ("source", "", "key source", "is missing"),
        ("bandwidth_bytes_per_s", "  bandwidth_bytes_per_s: 0", ":8", "greater than 0, but is 0"),
        ("bandwidth_bytes_per_s", "  bandwidth_bytes_per_s: -1", ":8", "greater than 0"),
        ("bandwidth_bytes_per_s", "  bandwidth_bytes_per_s: .nan", ":8", "finite"),
        ("bandwidth_bytes_per_s", "  bandwidth_bytes_per_s: 1e999", ":8", "finite|less than"),
        ("bandwidth_bytes_per_s", "  bandwidth_bytes_per_s: yes", ":8", "not yes or no"),
        ("bandwidth_bytes_per_s", "  bandwidth_bytes_per_s: fast", ":8", "'fast'"),
        ("type", "  type: X\n  total_bytes: 20000000000000", ":8, key memory.total_bytes", "less"),
        ("type", "  type: X\n  total_bytes: 800", ":5, key memory", "needs total_source"),
        ("source_date", "source_date: lately", ":10, key source_date", "pattern"),
        ("memory", "memory: 80", "", "valid YAML"),
    ],
)
def test_errors_point_at_the_line(tmp_path, key, line, where, what):
    path = device_file(tmp_path, **{key: line})

    with pytest.raises(DocumentError, match=what) as caught:
        read_device(path)

    assert where in str(caught.value)


def test_a_capacity_above_the_total_is_refused(tmp_path):
    sourced = "  {0}_bytes: {1}\n  {0}_source: log\n  {0}_date: 2026-01"
    lines = "  type: X\n" + sourced.format("capacity", 900) + "\n" + sourced.format("total", 800)

    with pytest.raises(DocumentError, match="larger than total_bytes") as caught:
        read_device(device_file(tmp_path, type=lines))

    assert ":5, key memory" in str(caught.value)


def test_a_pair_cannot_have_more_than_the_whole_link(tmp_path):
    link = ["link:", "  name: X", "  unidirectional_bytes_per_s: 1", "  pair_bytes_per_s: 2"]

    with pytest.raises(
        DocumentError, match=r"anvil\.yaml:11, key link: pair_bytes_per_s is larger"
    ):
        read_device(device_file(tmp_path, *link))


def test_a_node_of_several_devices_needs_a_link(tmp_path):
    path = tmp_path / "box.yaml"
    path.write_text(
        "name: Box\ndevice: h100-sxm\ndevices: 8\ntopology: pcie\nsource: x\nsource_date: 2026\n",
        encoding="utf-8",
    )

    with pytest.raises(DocumentError, match="needs link"):
        read_node(path)


def test_an_unknown_key_is_reported_before_what_it_causes(tmp_path):
    document = load_document(device_file(tmp_path, name="nmae: Anvil", vendor="vendor: 3"))

    with pytest.raises(DocumentError, match="unknown key 'nmae'"):
        validated(document, DeviceSpec)
