"""Words of other tools: taken where they mean the same, else answered with ours; and what the first word may be."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

from vqclip.common.errors import UsageError
from vqclip.common.paths import at_home

PROMPT = "PROMPT"
"""Stands for an option whose value is a prompt here."""

SAME: Mapping[str, str] = {
    **dict.fromkeys(("-p", "--prompt", "--prompts", "--text"), PROMPT),
    **dict.fromkeys(("-m", "--model", "--preset"), "--config"),
    **dict.fromkeys(("-n", "--num-images", "--num", "--n-images", "--images", "--batch-count", "--samples"), "--count"),
    **dict.fromkeys(("--out", "--outfile", "--output-path", "--outdir", "--save"), "--output"),
    **dict.fromkeys(("--num-steps", "--num-inference-steps", "--ddim-steps", "--optimisation-steps"), "--steps"),
    **dict.fromkeys(("--init", "--init-img", "--input-image", "--initial-image"), "--init-image"),
    **dict.fromkeys(("--denoising-strength", "--image-strength"), "--strength"),
    **dict.fromkeys(("--image-prompts", "--target-image"), "--image-prompt"),
    **dict.fromkeys(("--save-interval", "--display-freq", "--save-freq"), "--save-every"),
    **dict.fromkeys(("--num-threads", "--cpu-threads"), "--threads"),
    **dict.fromkeys(("--resolution", "--dimensions", "--image-size"), "--size"),
    **dict.fromkeys(("--force", "--replace"), "--overwrite"),
    **dict.fromkeys(("--silent",), "--quiet"),
    **dict.fromkeys(("--debug",), "--verbose"),
    **dict.fromkeys(("--top-k", "--limit"), "--top"),
    **dict.fromkeys(("--labels", "--classes"), "--label"),
}
"""An option elsewhere ─▶ ours of the same meaning, which takes a value where theirs does."""

ALONE: Mapping[str, str] = {"--video": "gif"}
"""An option of ours that may stand without its value ─▶ what is meant then."""

WIDTHS, HEIGHTS = ("-W", "--width"), ("-H", "--height")

OTHERWISE: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("--negative", "--negative-prompt", "--neg"),
        ("--set", 'what to stay away from stands in the prompt, with a weight below 0: "a castle | fog:-0.5"'),
    ),
    **dict.fromkeys(("-s",), ("--size", "other tools mean --steps, --seed or --size by it; write the one you mean")),
    **dict.fromkeys(
        ("-i", "--iterations", "--iters", "--n-iter"),
        (
            "--steps",
            "other tools mean --steps (updates of a picture) or --count (pictures) by it; write the one you mean",
        ),
    ),
    **dict.fromkeys(
        ("--cfg-scale", "--cfg", "--guidance-scale", "--guidance", "--scale"),
        ("--set", 'here a prompt has a weight, "a castle:2", and the prior has --set prior.guidance=NUMBER'),
    ),
    **dict.fromkeys(
        ("--gpu", "--cuda", "--use-gpu", "--gpus"), ("--device", "say --device cuda, or cuda:1 for the second")
    ),
    **dict.fromkeys(("--cpu", "--no-gpu"), ("--device", "say --device cpu")),
    **dict.fromkeys(
        ("--upscale", "--upscale-factor", "--enlarge"),
        ("--seed", "say --set output.upscale=none, embedded, a name or a file; --size is what is drawn"),
    ),
    **dict.fromkeys(
        ("--grid", "--sheet", "--contact-sheet"), ("--set", "a page of all pictures in a folder: vqclip gallery DIR")
    ),
    **dict.fromkeys(
        ("--sampler", "--scheduler", "--optimiser", "--optimizer"), ("--set", "say --set optimise.name=NAME")
    ),
    **dict.fromkeys(("--lr", "--learning-rate", "--step-size"), ("--set", "say --set optimise.lr=NUMBER")),
    **dict.fromkeys(("--cutn", "--cuts", "--num-cuts"), ("--set", "say --set cutouts.count=NUMBER")),
    **dict.fromkeys(("--clip-model", "--clip-models"), ("--set", "say --set perceptors=[NAME:TAG]")),
    **dict.fromkeys(
        ("--low-ram", "--lowvram", "--medvram", "--low-memory"), ("--set", "say --set runtime.low_memory=true")
    ),
    **dict.fromkeys(("--fp16", "--half-precision", "--precision"), ("--set", "say --set runtime.precision=NAME")),
    **dict.fromkeys(
        ("--lora", "--loras", "--lora-paths"),
        ("--set", "VQGANs have no LoRA; the models there are: vqclip models list"),
    ),
}
"""An option elsewhere ─▶ the option that a command must have for the sentence to be of use, and the sentence."""

FIRST: Mapping[str, tuple[str, ...]] = {
    "gen": ("generate",),
    "txt2img": ("generate",),
    "help": ("--help",),
    "version": ("--version",),
}
"""A first word elsewhere ─▶ what it is here."""

ASKED: Mapping[str, str] = {
    "list": "vqclip models list shows the models, vqclip config list the set-ups for generate -c NAME",
    "img2img": 'say vqclip generate --init-image FILE "a prompt"',
    "pull": "say vqclip models pull NAME",
    "download": "say vqclip models pull NAME",
    "install": "say vqclip models pull NAME",
    "show": "vqclip info PICTURE shows how a picture was made, vqclip config show the settings",
    "completion": "say vqclip --install-completion",
    "upgrade": "say pip install --upgrade vqclip",
}
"""A first word elsewhere ─▶ what to say instead."""

NEAR = 0.8
"""How alike two words are (difflib's ratio) where one is taken for the other mistyped; `cat` and `batch` are not."""


def first_word(words: Sequence[str], commands: Collection[str]) -> list[str]:
    """Read `vqclip "a cat"` as `vqclip generate "a cat"`, and what other tools call commands.

    Raises:
        UsageError: a mistyped command, or another tool's that is no command here.
    """
    first, rest = words[0], list(words[1:])
    if first in commands or (first.startswith("-") and first != "-"):
        return list(words)
    if first == "help" and rest:
        return [*rest, "--help"]
    if first in FIRST:
        return [*FIRST[first], *rest]
    if first in ASKED and len(words) <= 2:
        raise UsageError(f"{first!r} is no command: {ASKED[first]}.")
    near = get_close_matches(first.lower(), commands, n=1, cutoff=NEAR)
    if near:
        raise UsageError(
            f"{first!r} is no command; did you mean {near[0]!r}? A prompt of this word: vqclip generate {first!r}."
        )
    return ["generate", *words]


def our_words(words: Sequence[str], known: Mapping[str, bool], command: str) -> list[str]:
    """Put our options for those of other tools, and open `~/` as a shell does.

    `known` are the command's options, each with whether a value follows, and `PROMPT` where it draws prompts; what it
    knows itself is left alone, but that an option of `ALONE` gets its value. Everything behind `--` is left alone too.

    Raises:
        UsageError: an option that is none here, with the way to say it, or the nearest that is alike.
    """
    given, prompts, sides = [], [], dict[str, str]()
    left = list(words)
    while left and left[0] != "--":
        word = left.pop(0)
        option, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        ours = _ours(option, known, command)
        takes_value = known.get(ours, True) if ours else False
        if (
            ours is not None
            and ours in ALONE
            and not equals
            and (not left or left[0].startswith("-") or " " in left[0])
        ):
            given += [ours, ALONE[ours]]
            continue
        if ours is None or (equals and not takes_value):
            given.append(_at_home(word))
            continue
        if takes_value and not equals:
            if not left:
                raise UsageError(f"{option} needs a value. See {command} -h.")
            value = left.pop(0)
        if ours == PROMPT:
            prompts.append(value)
        elif ours in ("width", "height"):
            sides[ours] = value
        else:
            given += [ours, *([_at_home(value)] if takes_value else [])]
    if len(sides) == 1:
        raise UsageError("Give --width and --height together, or --size WIDTHxHEIGHT.")
    size = ["--size", f"{sides['width']}x{sides['height']}"] if sides else []
    tail = [*prompts, *left[1:]]
    return [*given, *size, *(["--", *tail] if tail else left)]


def _ours(option: str, known: Mapping[str, bool], command: str) -> str | None:
    """What an option is here, with a dash or an underscore in its name; None for what is no option."""
    if not option.startswith("-") or option == "-":
        return None
    if option in known:
        return option
    option = option.replace("_", "-")
    if option in known:
        return option
    if SAME.get(option) in known:
        return SAME[option]
    if "--size" in known:
        for side, names in {"width": WIDTHS, "height": HEIGHTS}.items():
            if option in names:
                return side
    if option in OTHERWISE and OTHERWISE[option][0] in known:
        raise UsageError(f"{option} is no option here: {OTHERWISE[option][1]}.")
    if not option.startswith("--"):
        return None
    spoken = [*known, *(name for name, ours in SAME.items() if ours in known)]
    near = get_close_matches(option, [name for name in spoken if name.startswith("--")], n=1, cutoff=NEAR)
    meant = f"; did you mean {near[0]}?" if near else "."
    raise UsageError(f"No such option: {option}{meant} See {command} -h.")


def _at_home(word: str) -> str:
    """Open `~/…` and `--option=~/…`, which a shell leaves alone in quotes and behind an equals sign."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{at_home(value)}"
