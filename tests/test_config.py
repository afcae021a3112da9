"""Settings: which layer wins, what is refused and in which words, and that text stays text."""

import dataclasses
import io
import re
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from command import Command
from conftest import TinyModels
from hypothesis import given, settings
from hypothesis import strategies as st

from vqclip.cli import completion
from vqclip.common.errors import UsageError
from vqclip.config.alternatives import expand
from vqclip.config.loader import (
    ConfigReader,
    _read_yaml,
    available_configs,
    config_from_dict,
    load_config,
    to_dict,
    to_yaml,
)
from vqclip.config.schema import Config, parse_guide, parse_size
from vqclip.pipeline.checks import check
from vqclip.pipeline.plan import make_plan

DATA = ["${oc.env:HOME}", "${", "${missing}", "???", "[red]", "$?", "\\${x}", "a: b # c", "null"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def layer(name: str, text: str) -> str:
    Path(name).write_text(text, "utf-8")
    return name


def test_later_layers_win_key_by_key() -> None:
    first = layer("first.yaml", "count: 2\nsize: 32x32\noptimise: {steps: 2, lr: 0.2, ema: 0.2}\n")
    second = layer("second.yaml", "size: 48x48\noptimise: {lr: 0.3, ema: 0.3}\n")
    config = load_config([first, second], ["optimise.lr=0.4", "optimise.ema=0.4", "optimise.ema=0.5"], {"seed": 9})
    assert (config.count, config.size, config.optimise.steps) == (2, "48x48", 2)  # first, second, first
    assert (config.optimise.lr, config.optimise.ema) == (0.4, 0.5)  # words over layers, later word over earlier
    assert load_config([first], ["optimise.ema=0.5"], {"optimise.ema": 0.6}).optimise.ema == 0.6
    assert config.seed == 9
    assert config.optimise.name == load_config().optimise.name  # nobody said anything: the default


def test_order_of_layers_matters() -> None:
    one, two = layer("one.yaml", "count: 1"), layer("two.yaml", "count: 2")
    assert load_config([one, two]).count == 2
    assert load_config([two, one]).count == 1


def test_every_key_that_a_shell_completes_is_one_of_set() -> None:
    """Losses that are told a file have dots in their names."""
    names = [key for key in completion.settings("losses.") if key.startswith("losses.")]
    assert {"losses.tv=", "losses.colours:photo.jpg="} <= set(names)
    for name in names:
        key = name.removeprefix("losses.").removesuffix("=")
        assert load_config([], [f"{name}0.5"]).losses == {key: 0.5}
        assert load_config([], [], {f"losses.{key}": 0.5}).losses == {key: 0.5}


def test_lists_replace_and_losses_merge() -> None:
    first = layer("first.yaml", "prompts: [a, b]\nlosses: {tv: 1, saturation: 2}")
    second = layer("second.yaml", "prompts: [c]\nlosses: {tv: 3}")
    config = load_config([first, second], ["losses.symmetry=4"])
    assert config.prompts == ["c"]
    assert config.losses == {"tv": 3.0, "saturation": 2.0, "symmetry": 4.0}
    assert load_config([first], [], {"prompts": ["d"]}).prompts == ["d"]


def test_an_option_not_given_changes_nothing() -> None:
    assert load_config([], ["count=3"], {"count": None, "size": None}) == load_config([], ["count=3"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optimise.step=1", "unknown key 'optimise.step'; did you mean 'steps'?"),
        ("optimize.steps=1", "unknown key 'optimize'; did you mean 'optimise'?"),
        ("colour=red", "unknown key 'colour'; "),
        ("${oc.env:HOME}=1", "unknown key '${oc'"),
        ("seed.x=1", "seed is `name: value` pairs; it must be a whole number"),
        ("optimise.steps=abc", "optimise.steps is 'abc'; it must be a whole number"),
        ("optimise.steps=1.5", "optimise.steps is '1.5'; it must be a whole number"),
        ("optimise.steps=true", "optimise.steps is 'true'"),
        ("optimise.steps=", "optimise.steps is null; it must be a whole number"),
        ("optimise.steps=" + "9" * 5000, "it must be a whole number"),
        ("optimise.steps=٣", "it must be a whole number"),
        ("optimise=3", "optimise is '3'; it must be `name: value` pairs"),
        ("optimise=null", "optimise is null; it must be"),
        ("losses=null", "losses is null; it must be"),
        ("losses.tv=[1]", "losses.tv is a list; it must be a number"),
        ("losses.tv=much", "losses.tv is 'much'; it must be a number"),
        ("losses={1: x}", "losses.1 is 'x'"),
        ("prompts=a cat", "prompts is 'a cat'; it must be a list"),
        ("prompts=[null]", "prompts[0] is null; it must be text"),
        ("prompts=[[a]]", "prompts[0] is a list; it must be text"),
        ("prompts=[fine, a photo: the sea]", "prompts[1] is `name: value` pairs; it must be text; quote one that"),
        ("image_prompts=[{a: b}]", "image_prompts[0] is `name: value` pairs"),
        ("output.metadata=maybe", "output.metadata is 'maybe'; it must be true or false"),
        ("seed=!!int ''", "could not determine a constructor for the tag"),
        ("optimise.lr=!!float ''", "could not determine a constructor for the tag"),
        ("losses={!!timestamp x: 1}", "could not determine a constructor for the tag"),
        ("losses={? [a] : 1}", "is not usable YAML"),
        ("prompts=[a", "line 1 is not usable YAML"),
        ("count", "is not key=value"),
        ("=1", "is not key=value"),
        ("optimise..steps=1", "is not key=value"),
        ("a." * 2000 + "a=1", "unknown key 'a'"),
    ],
)
def test_a_bad_word_is_named(word: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load_config([], [word])
    assert str(caught.value).startswith(f"--set {word!r}" if len(word) < 50 else "--set ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_bad_layer_and_a_bad_option_are_named() -> None:
    with pytest.raises(UsageError, match=r"^config 'mine\.yaml': unknown key 'vqgan\.nam'; did you mean 'name'\?$"):
        load_config([layer("mine.yaml", "vqgan: {nam: x}")])
    with pytest.raises(UsageError, match=r"^command line: count is 'many'; it must be a whole number"):
        load_config([], [], {"count": "many"})


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("seed=-1", "seed"),
        (f"seed={2**63}", "seed"),
        ("count=0", "count"),
        ("count=10001", "count"),
        ("size=big", "size"),
        ("perceptors=[]", "perceptors"),
        ("losses.tv=.nan", "losses.tv"),
        ("losses.tv=-.inf", "losses.tv"),
        ("vqgan.name=null", "vqgan.name"),
        ("init.weight=-1", "init.weight"),
        ("init.weight=.nan", "init.weight"),
        ("init.kind=image", "init.image"),
        ("init.image=a.png", "init.strength"),
        ("cutouts.count=0", "cutouts.count"),
        ("cutouts.micro_batch=0", "cutouts.micro_batch"),
        ("optimise.steps=-1", "optimise.steps"),
        ("optimise.lr=0", "optimise.lr"),
        ("optimise.lr=.inf", "optimise.lr"),
        ("optimise.ema=1", "optimise.ema"),
        ("output.save_every=-1", "output.save_every"),
        ("output.video=avi", "output.video"),
        ("runtime.threads=0", "runtime.threads"),
        ("runtime.state_every=-1", "runtime.state_every"),
        ("runtime.state_seconds=-1", "runtime.state_seconds"),
        ("runtime.state_seconds=.inf", "runtime.state_seconds"),
    ],
)
def test_values_out_of_range(word: str, key: str) -> None:
    with pytest.raises(UsageError, match=rf"^{re.escape(key)} is "):
        load_config([], [word])


def test_seed_limits() -> None:
    assert load_config([], ["seed=0"]).seed == 0
    assert load_config([], [f"seed={2**63 - 1}"]).seed == 2**63 - 1
    assert load_config([], ["count=2"], {"seed": 2**63 - 2}).count == 2  # the second picture has the last seed
    with pytest.raises(UsageError, match=f"at most {2**63 - 2} for 2 pictures"):
        load_config([], ["count=2"], {"seed": 2**63 - 1})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1x2", (1, 2)),
        ("640X480", (640, 480)),
        (" 8 x 9 ", (8, 9)),
        ("3×4", (3, 4)),
        ("16384x16384", (16384, 16384)),
    ],
)
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0x9", "9x0", "16385x1", "-1x2", "1.5x2", "1x", "x1", "1x2x3", "٣x٣", "big"])
def test_not_a_size(text: str) -> None:
    with pytest.raises(UsageError, match="WIDTHxHEIGHT"):
        parse_size(text)


@pytest.mark.parametrize("text", DATA)
def test_text_is_never_evaluated(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/secret")
    quoted = yaml.safe_dump({"prompts": [text], "vqgan": {"file": text}, "losses": {text: 1.0}})
    wanted = load_config([], [], {"prompts": [text], "vqgan.file": text})
    found = load_config([layer("data.yaml", quoted)])
    assert found.prompts == wanted.prompts == [text]
    assert found.vqgan.file == wanted.vqgan.file == text
    assert found.losses == {text: 1.0}


@pytest.mark.parametrize("text", [*DATA[:-1], "a: b", "'quoted'", "- x", " spaced ", "1", "true"])
def test_a_word_for_a_text_key_is_taken_as_typed(text: str) -> None:
    assert load_config([], [f"vqgan.file={text}"]).vqgan.file == text
    assert load_config([], [f"optimise.name={text}"]).optimise.name == text


@pytest.mark.parametrize("text", ["10:30", "yes", "1.10", "2020-01-01", "1e3", "0x10", "null x", "<<", "='"])
def test_yaml_makes_no_number_or_date_of_a_text(text: str) -> None:
    assert load_config([layer("mine.yaml", f"prompts: [{text}]")]).prompts == [text]
    assert load_config([layer("mine.yaml", "prompts: ['null', '~', '']")]).prompts == ["null", "~", ""]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("optimise.lr", "1e-3", 0.001),
        ("optimise.lr", "2", 2.0),
        ("seed", "007", 7),
        ("seed", "1_000", 1000),
        ("seed", "+5", 5),
        ("output.metadata", "No", False),
        ("output.metadata", "on", True),
    ],
)
def test_a_text_is_read_as_its_keys_type(key: str, text: str, value: object) -> None:
    for config in (load_config([], [f"{key}={text}"]), load_config([], [], {key: text})):
        *sections, last = key.split(".")
        found = getattr(getattr(config, sections[0]) if sections else config, last)
        assert found == value and type(found) is type(value)


@pytest.mark.parametrize("nothing", ["null", "~", ""])
def test_null_takes_a_value_back(nothing: str) -> None:
    mine = layer("mine.yaml", "seed: 3\nvqgan: {file: a.ckpt}\ncutouts: {micro_batch: 2}")
    config = load_config([mine], [f"{key}={nothing}" for key in ("seed", "vqgan.file", "cutouts.micro_batch")])
    assert (config.seed, config.vqgan.file, config.cutouts.micro_batch) == (None, None, None)


def given_text(text: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8")


def is_one_picture(prompt: str) -> bool:
    """Whether a prompt stands for itself: what is loaded is never a list or alternatives any more."""
    try:
        return expand([prompt]) == [prompt]
    except UsageError:
        return False


texts = st.text(min_size=1) | st.sampled_from(DATA) | st.text("\x85\u2028\u2029\n\r\t ${}?:#'\"\\-", min_size=1)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts.filter(is_one_picture)), texts, st.integers(0, 2**63 - 1), st.floats(1e-9, 1e9))
def test_written_configs_read_back(prompts: list[str], path: str, seed: int, lr: float) -> None:
    options = {"prompts": prompts, "output.path": path, "seed": seed, "optimise.lr": lr, "losses": {"tv": -lr}}
    config = load_config([], [], options)
    assert (config.prompts, config.output.path, config.seed, config.optimise.lr) == (prompts, path, seed, lr)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", given_text(to_yaml(config)))
        assert load_config(["-"]) == config


def test_ordinary_text_is_written_readably() -> None:
    assert "日本 🍎 Äpfel" in to_yaml(load_config([], [], {"prompts": ["日本 🍎 Äpfel"]}))


def test_standard_input_is_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", given_text("count: 7\n"))
    assert load_config(["-"]).count == 7
    monkeypatch.setattr(sys, "stdin", given_text("colour: red\n"))
    with pytest.raises(UsageError, match=r"^config '-': unknown key 'colour'"):
        load_config(["-"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), "utf-8"))
    with pytest.raises(UsageError, match="standard input: line 1 is not UTF-8"):
        load_config(["-"])


def alias_bomb() -> str:
    """Return ten lists, each of ten times the one before: ten thousand million prompts in half a kilobyte."""
    lists = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 11)]
    return "\n".join([*lists, "prompts: *a10"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "line 1 is not usable YAML"),
        (b"seed: 1\n\tcount: 2", "line 2 is not usable YAML"),
        (b"seed: 1\x01", "is not usable YAML"),
        (b"seed: 1\n---\nseed: 2", "line 2 is not usable YAML"),
        (b"seed: !!python/object/apply:os.system [ls]", "line 1 is not usable YAML"),
        (b"seed: " + b"9" * 5000, "seed is '99"),
        (b"\xff\xfe\x00", "line 1 is not UTF-8 text"),
        (b"seed: 1\n" * 30_000, "longer than 0.2 MB"),
        (b"- a\n- b", "must hold `key: value` lines, not a list"),
        (b"hello", "must hold `key: value` lines, not 'hello'"),
        (b"prompts: " + b"[" * 100_000, "is not usable YAML"),
        (b"prompts: " + b"[" * 200 + b"]" * 200, "nested too deeply"),
        (b"prompts: " + b"[" * 20 + b"]" * 20, "prompts[0] is a list"),
        (b"prompts: &a [*a]", "aliases"),
        (alias_bomb().encode(), "aliases"),
    ],
)
def test_broken_files(content: bytes, message: str) -> None:
    Path("broken.yaml").write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load_config(["broken.yaml"])
    assert "broken.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read() -> None:
    Path("folder.yaml").mkdir()
    with pytest.raises(UsageError, match=r"'folder\.yaml': Is a directory"):
        load_config(["folder.yaml"])
    with pytest.raises(UsageError, match=r"'none\.yaml': No such file"):
        load_config(["none.yaml"])
    with pytest.raises(UsageError, match="Unknown config 'draf': did you mean 'draft'"):
        load_config(["draf"])
    with pytest.raises(UsageError, match=r"Unknown config 'n{300}'"):
        load_config(["n" * 300])


def test_an_empty_layer_and_a_file_without_suffix_are_fine() -> None:
    assert load_config([layer("empty.yaml", "# nothing\n")]) == load_config()
    assert load_config([layer("mine", "count: 5")]).count == 5


def test_a_saved_config_is_read_over_the_defaults() -> None:
    config = load_config([], ["count=3", "losses.tv=1"], {"prompts": DATA, "output.path": DATA[0]})
    assert config_from_dict(to_dict(config), "a.png") == config
    assert config_from_dict({"count": 3}, "a.png") == load_config([], ["count=3"])
    with pytest.raises(UsageError, match=r"^a\.png: unknown key 'oracle'"):
        config_from_dict({"oracle": {}}, "a.png")


@pytest.mark.parametrize("name", available_configs())
def test_shipped_configs(name: str) -> None:
    """Each loads, names only what exists, and says on its first line how to run it."""
    config = load_config([name])
    check(config)
    first = available_configs()[name].read_text("utf-8").splitlines()[0]
    assert re.match(r"# vqclip (generate .*\"[^\"]+\"$|edit|outpaint|vary|interpolate)", first), first
    assert name in ("default", "change") or f" {name} " in first


def test_published_setups_and_quality_layers_are_there() -> None:
    published = {"imagenet-16384", "imagenet-1024", "gumbel-f8", "wikiart-16384", "coco", "faceshq", "sflckr"}
    assert available_configs().keys() >= published | {"ibq-16384", "default", "draft", "normal", "best"}


def keys(kind: Any, prefix: str = "") -> set[str]:
    names: set[str] = set()
    for name, hint in get_type_hints(kind).items():
        names |= keys(hint, f"{prefix}{name}.") if dataclasses.is_dataclass(hint) else {prefix + name}
    return names


def test_default_yaml_has_every_key_with_a_comment() -> None:
    lines = available_configs()["default"].read_text("utf-8").splitlines()
    found, section = set(), ""
    for line in lines:
        match = re.match(r"( *)([a-z_]+):(.*)", line)
        if not match:
            continue
        indent, key, rest = match.groups()
        section = section if indent else ""
        if not rest:
            section = f"{key}."
            continue
        found.add(section + key)
        assert "#" in rest or key == "lr", f"{key} has no comment"
    assert found == keys(Config)


def test_a_reader_reads_each_layer_once_and_says_what_load_config_says(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [layer("one.yaml", "count: 2\noptimise: {lr: 0.5}\n"), layer("two.yaml", "optimise: {ema: 0.5}\n")]
    asks = [(layers[:1], ["count=3"], {"size": "32x32"}), (layers, [], {"optimise.lr": 0.1, "init.weight": None})]
    expected = [load_config(*ask) for ask in asks]
    paths: list[Path] = []
    monkeypatch.setattr("vqclip.config.loader._read_yaml", lambda path: paths.append(path) or _read_yaml(path))
    reader = ConfigReader()
    assert [reader.load(*ask) for ask in asks * 3] == expected * 3
    assert [path.name for path in paths] == ["default.yaml", "one.yaml", "two.yaml"]


def test_a_reader_refuses_a_bad_layer_every_time() -> None:
    bad, reader = layer("bad.yaml", "cuont: 2\n"), ConfigReader()
    for _ in range(2):
        with pytest.raises(UsageError, match="unknown key 'cuont'"):
            reader.load([bad])


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("ViT-B-32:openai", ("ViT-B-32:openai", 1.0, 1.0)),
        ("embedded weight=0.5", ("embedded", 0.5, 1.0)),
        ("a folder/my clip share=.25 weight=2", ("a folder/my clip", 2.0, 0.25)),
        ("weight=2", ("weight=2", 1.0, 1.0)),  # a name
    ],
)
def test_a_perceptor_may_carry_a_weight_and_a_share(entry: str, expected: tuple[str, float, float]) -> None:
    guide = parse_guide(entry)
    assert (guide.name, guide.weight, guide.share) == expected
    assert parse_guide(str(guide)) == guide


@pytest.mark.parametrize(
    "entry",
    ["x weight=", "x weight=-1", "x share=0", "x share=1.5", "x weight=1 weight=2", "x weight=1e9", "x weight=."],
)
def test_a_bad_weight_or_share_of_a_perceptor_is_refused(entry: str) -> None:
    with pytest.raises(UsageError, match=r"x|weight|share"):
        load_config([], [], {"perceptors": [entry]})


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("vqgan.name=imagenet-1634", "did you mean"),
        ("vqgan.file=gone.ckpt", "'gone.ckpt' is not a file"),
        ("perceptors=[ViT-B-33:openai]", "ViT-B-33"),
        ("perceptors=[embedded, ViT-B-32:laion]", "laion"),
        ("perceptors=[gone/]", "Unknown perceptor 'gone/'"),
        ("prior.name=gone", "prior.name 'gone'"),
        ("runtime.device=gpu", "gpu"),
        ("runtime.device=cuda:77", "cuda:77"),
        ("cutouts.recipe=pixra", "did you mean 'pixray'"),
        ("prompts=['a:1:2:3']", "column 2"),
    ],
)
def test_validate_checks_names(run: Command, override: str, says: str) -> None:
    done = run("config", "validate", "--set", override)
    assert done.code == 2 and says in done.stderr and done.stdout == ""


def test_validate_needs_no_published_model_to_be_here(run: Command) -> None:
    done = run("config", "validate", *available_configs(), "--set", "runtime.device=cpu")
    assert done.code == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(available_configs()) + 1


def test_validate_checks_layers_together_too(run: Command) -> None:
    Path("strokes.yaml").write_text("drawer: strokes\n")
    Path("stages.yaml").write_text("optimise: {pyramid: [[0.5, 0.5], [1, 0.5]]}\n")
    done = run("config", "validate", "strokes.yaml", "stages.yaml")
    assert done.code == 2 and "do not go together: optimise.pyramid" in done.stderr, done.stderr
    assert done.stdout.splitlines() == ["strokes.yaml: ok", "stages.yaml: ok"]
    assert run("config", "validate", "draft", "-c", "clean").stdout.splitlines()[-1] == "together: ok"


def test_validate_reads_standard_input_once(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("stages.yaml").write_text("optimise: {pyramid: [[0.5, 0.5], [1, 0.5]]}\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"drawer: strokes\n")))
    done = run("config", "validate", "-", "stages.yaml")
    assert done.code == 2 and "do not go together: optimise.pyramid" in done.stderr, done.stderr


def test_a_weight_holds_near_the_start_that_auto_chooses(tiny: TinyModels) -> None:
    held = make_plan(load_config([], ["init.weight=0.5"], {"prompts": ["a cat"]})).config.init
    assert (held.kind, held.weight) == ("prior", 0.5)
    with pytest.raises(UsageError, match=r"^init\.weight is 0\.5; it must be 0 unless"):
        make_plan(load_config([str(tiny.config)], ["init.weight=0.5"], {"prompts": ["a cat"]}))
