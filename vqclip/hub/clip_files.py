"""Finding the files of a CLIP model: embedded, in the hub's cache, local, or an OpenAI archive."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from vqclip.common.errors import ModelError, UsageError
from vqclip.common.files import replacing
from vqclip.common.hashes import known_sha256, private_copy, remembered_sha256
from vqclip.common.paths import cache_dir, embedded_dir, is_file, is_folder, is_there
from vqclip.common.registry import did_you_mean
from vqclip.hub.access import Access, not_here
from vqclip.hub.clip_catalogue import CLIPS, ROBUST, PublishedCLIP
from vqclip.hub.clip_tokenisers import architecture_text, bring_tokeniser, check_package
from vqclip.hub.clip_web import pull_web, web_weights
from vqclip.hub.hub_cache import cached_file, pull_file
from vqclip.hub.sources import WebFile, hub_place
from vqclip.hub.transfer import Watch
from vqclip.models.files import EMBEDDED, ClipFiles, check_clip_config, check_merges, clip_text
from vqclip.models.weights.file_type import OTHER

LOCAL = "local-dir:"
"""What open_clip puts before a folder's name."""

HUB = "hf-hub:"
"""What open_clip puts before a repository on Hugging Face."""

REPOSITORY = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)

CONFIG = "open_clip_config.json"

FORMS = f"give {EMBEDDED!r}, name:tag (ViT-B-32:openai), {HUB}OWNER/NAME, name:FILE, or a folder with {CONFIG}."

JUDGES = {"embedded-judge": "judge", "embedded-second": "second"}
"""Models of two other families that judge what the guide made, by their folders in checkpoints/embedded."""

EMBEDDED_FOLDERS = {EMBEDDED: "clip", **JUDGES}
"""All that come with vqclip, the guide first."""

HUB_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""What open_clip calls the weights in a repository that names no file of its own, best first."""

FOLDER_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
"""What open_clip takes for the weights in a folder, in its order."""

WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".zip")
"""Endings by which a word is taken for a file's name rather than for a tag."""
PREPROCESS = ("mean", "std", "interpolation", "resize_mode")


def find_clip(
    spec: str, access: Access = Access.HERE, *, force: bool = False, watch: Watch = lambda done, total: None
) -> ClipFiles:
    """Find the model that a `perceptors` entry names.

    `spec` is one of EMBEDDED_FOLDERS, `name:tag` as open_clip lists them, `hf-hub:OWNER/NAME`, `name:FILE`, a folder
    with `open_clip_config.json`, or an OpenAI archive. A missing published one is downloaded where `access` says so
    (with `force`, one that is here is anew), and `watch` is told how far that is.

    Raises:
        UsageError: an unknown name or tag.
        ModelError: the file is missing or refused.
    """
    if spec in EMBEDDED_FOLDERS:
        return _folder(embedded_dir() / EMBEDDED_FOLDERS[spec], spec)
    plain = spec.removeprefix(LOCAL)
    if plain and is_folder(plain):
        return _folder(Path(plain), spec)
    if is_file(spec):
        return _openai_archive(Path(spec), spec)
    if spec.startswith(HUB):
        return _repository(spec, access, force, watch)
    if spec in CLIPS and CLIPS[spec].web:
        return _from_the_web(CLIPS[spec], access, force, watch)
    name, colon, tag = spec.partition(":")
    if not colon:
        raise UsageError(f"Unknown perceptor {_short(spec)!r}: {FORMS}")
    if is_file(tag):
        return _local_file(name, Path(tag), spec, access)
    if spec.startswith(LOCAL) or _is_path(name) or _is_path(tag):
        raise UsageError(f"The perceptor {_short(spec)!r} is not there: no file or folder has this name; {FORMS}")
    return _published(name, tag, spec, access, force, watch)


def _is_path(word: str) -> bool:
    """Whether a word can only mean a file or a folder: a name or a tag has no separator and no file's ending."""
    return "/" in word or "\\" in word or word.lower().endswith(WEIGHTS)


def _short(word: str) -> str:
    return word if len(word) <= 80 else f"{word[:80]}…"


def _folder(folder: Path, name: str) -> ClipFiles:
    if not is_file(folder / CONFIG):
        raise ModelError(f"The CLIP folder {str(folder)!r} has no {CONFIG}; a complete one holds it.")
    weights = next((path for file in FOLDER_NAMES if is_file(path := folder / file)), None)
    if weights is None:
        raise ModelError(f"The CLIP folder {str(folder)!r} has no {FOLDER_NAMES[0]}; a complete one holds it.")
    check_clip_config(folder)
    merges = folder / "merges.txt.gz"
    if not is_file(merges):
        return ClipFiles(name, f"{LOCAL}{folder}", weights)
    check_merges(merges)
    return ClipFiles(name, f"{LOCAL}{folder}", weights, merges)


def _local_file(name: str, weights: Path, spec: str, access: Access) -> ClipFiles:
    if _is_torchscript(weights):
        return _openai_archive(weights, spec)
    bring_tokeniser(architecture_text(_known_architecture(name)), spec, access)
    return ClipFiles(spec, name, weights)


def _known_architecture(name: str) -> str:
    from open_clip import list_models

    if name not in list_models():
        raise UsageError(f"Unknown CLIP architecture {_short(name)!r}: {did_you_mean(name, list_models())}")
    return name


def _published(name: str, tag: str, spec: str, access: Access, force: bool, watch: Watch) -> ClipFiles:
    published = _tag(name, tag)
    architecture = _with_activation(name, bool(published.get("quick_gelu")))
    repository, filename = os.path.split(published["hf_hub"])
    check_package(architecture_text(name), spec)
    weights = cached_weights(repository, filename)
    if (weights is None or force) and access is Access.FETCH:
        weights = pull_file(repository, _candidates(filename), spec, watch, force=force)
    if weights is None:
        raise _not_here(spec, access, f"{name}:FILE")
    refuse_damaged(weights, spec)
    bring_tokeniser(architecture_text(name), spec, access, force=force)
    preprocess = {key: published[key] for key in PREPROCESS if key in published}
    return ClipFiles(spec, architecture, weights, preprocess=preprocess)


def _from_the_web(entry: PublishedCLIP, access: Access, force: bool, watch: Watch) -> ClipFiles:
    weights = pull_web(entry, force=force, watch=watch) if access is Access.FETCH else web_weights(entry)
    if weights is None:
        raise _not_here(entry.name, access, f"{entry.architecture}:FILE")
    return ClipFiles(entry.name, str(entry.architecture), weights)


def _repository(spec: str, access: Access, force: bool, watch: Watch) -> ClipFiles:
    """Find a repository that holds open_clip's config beside its weights; the two lie in one folder of the cache."""
    repository = _repository_name(spec)
    config, weights = cached_file(repository, CONFIG), cached_weights(repository)
    if (config is None or weights is None or force) and access is Access.FETCH:
        config = pull_file(repository, [CONFIG], spec, force=force, kinds=(OTHER,))
        weights = pull_file(repository, list(HUB_NAMES), spec, watch, force=force)
    if config is None or weights is None:
        raise _not_here(spec, access, "a folder")
    refuse_damaged(weights, spec)
    check_clip_config(config.parent)
    bring_tokeniser(clip_text(config.parent), spec, access, repository=repository, force=force)
    return _folder(config.parent, spec)


def _repository_name(spec: str) -> str:
    name = spec.removeprefix(HUB)
    if not REPOSITORY.fullmatch(name) or ".." in name or "--" in name:
        raise UsageError(f"{_short(spec)!r} names no repository: write {HUB}OWNER/NAME, e.g. {ROBUST}.")
    return name


def _not_here(spec: str, access: Access, other: str) -> ModelError:
    size = CLIPS[spec].size_text if spec in CLIPS else ""
    return not_here(f"The CLIP model {spec!r}", spec, access, f"what you already have is given as {other}.", size)


def weights_here(entry: PublishedCLIP) -> Path | None:
    """Return the weights of a model of the catalogue, or None; open_clip is not asked, as that takes seconds."""
    return web_weights(entry) if entry.web else cached_weights(entry.repository)


def clip_place(spec: str) -> tuple[str, Path | None]:
    """Return where a model is published, for messages, and its weights, if they are on this machine.

    Raises:
        UsageError: as `hub_file`.
    """
    if spec in CLIPS and (web := CLIPS[spec].web):
        return WebFile(web).host, weights_here(CLIPS[spec])
    repository, weights = hub_file(spec)
    return hub_place(repository), weights


def hub_file(spec: str) -> tuple[str, Path | None]:
    """Return a published model's repository on Hugging Face, and its weights in the hub's cache, if they are there.

    Raises:
        UsageError: open_clip does not list it, or not with weights on the hub.
    """
    if spec.startswith(HUB):
        repository = _repository_name(spec)
        return repository, cached_weights(repository)
    name, _, tag = spec.partition(":")
    repository, filename = os.path.split(_tag(name, tag)["hf_hub"])
    return repository, cached_weights(repository, filename)


def _tag(name: str, tag: str) -> dict[str, Any]:
    """Return open_clip's entry for published weights."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    _known_architecture(name)
    published = get_pretrained_cfg(name, tag)
    if not published:
        tags = list_pretrained_tags_by_model(name)
        raise UsageError(f"Unknown tag {_short(tag)!r} for the CLIP model {name!r}: {did_you_mean(tag, tags)}")
    return dict(published)


def clip_architecture(spec: str) -> str:
    """Return the architecture of a `perceptors` entry; published weights need not be on this machine.

    Raises:
        UsageError, ModelError: as `find_clip`.
    """
    if spec in CLIPS and (known := CLIPS[spec].architecture):
        return known
    name, _, tag = spec.partition(":")
    published = bool(tag) and not (is_there(spec) or is_file(tag) or _is_path(tag) or name in ("local-dir", "hf-hub"))
    if not published:
        return find_clip(spec).architecture
    return _with_activation(name, bool(_tag(name, tag).get("quick_gelu")))


def _with_activation(name: str, quick_gelu: bool) -> str:
    """Choose the architecture's QuickGELU twin when the weights were trained with it.

    open_clip itself only warns and then computes the wrong function.
    """
    from open_clip import get_model_config

    quick = f"{name}-quickgelu"
    return quick if quick_gelu and get_model_config(quick) is not None else name


def _candidates(filename: str) -> list[str]:
    if filename:
        return [filename.removesuffix(".bin") + ".safetensors", filename]
    return list(HUB_NAMES)


def cached_weights(repository: str, filename: str = "") -> Path | None:
    """Look into the hub's cache only; asking open_clip would first retry the network for 46 seconds."""
    return next((path for file in _candidates(filename) if (path := cached_file(repository, file))), None)


def refuse_damaged(weights: Path, spec: str, digest: str | None = None) -> None:
    """Refuse weights of the hub's cache whose SHA-256 is not their name: `digest`, or what an earlier check found.

    Raises:
        ModelError: they are others.
    """
    published, found = weights.resolve().name, digest or remembered_sha256(weights)
    if found and len(published) == 64 and found != published:
        raise ModelError(f"The file {str(weights)!r} is damaged; mend it with: vqclip models pull {spec} --force.")


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError):
        return False  # no zip, or a damaged one, which whoever reads it refuses


def openai_archives() -> dict[str, str]:
    """Return {sha256: open_clip model name} of OpenAI's published archives.

    The hash is part of each archive's address in open_clip's table.
    """
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_models_by_tag

    names = list_pretrained_models_by_tag("openai")
    urls = {name: get_pretrained_cfg(name, "openai")["url"] for name in names if name.endswith("-quickgelu")}
    return {url.split("/")[-2]: name for name, url in urls.items()}


def _openai_archive(path: Path, spec: str) -> ClipFiles:
    """Use one of OpenAI's TorchScript files, known by its hash, through a converted copy in the cache."""
    if not _is_torchscript(path):
        raise UsageError(f"Perceptor {spec!r} does not say which architecture it is; write NAME:{path}.")
    digest = known_sha256(path)
    name = openai_archives().get(digest)
    if name is None:
        raise ModelError(
            f"{str(path)!r} is a TorchScript program, not one of OpenAI's CLIP archives (sha256 {digest}), and is "
            "not run; save its tensors as safetensors and give NAME:FILE."
        )
    converted = cache_dir() / "clip" / f"{name}-openai-{digest[:12]}.safetensors"
    if not is_file(converted):
        _convert_archive(path, digest, converted)
    return ClipFiles(spec, name, converted)


def _convert_archive(archive: Path, digest: str, target: Path) -> None:
    """Write the tensors of the archive of this SHA-256 to `target`, in a process of its own."""
    with replacing(target) as part, private_copy(archive) as (copy, found):
        if found != digest:
            raise ModelError(f"The file {str(archive)!r} was changed while it was read; try again.")
        command = [sys.executable, "-P", "-m", "vqclip.hub.openai_archive", str(copy), str(part)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ModelError(f"Cannot read OpenAI's archive {str(archive)!r}: {_last_line(done.stderr)}")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["the converter failed without a word"])[-1]
