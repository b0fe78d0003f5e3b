"""Train the starter weights: draw, autoencoder, latents, denoiser, export. Everything follows from a seed.

    python -m scripts.starter.train --work .training --preset cpu            # hours on two cores
    python -m scripts.starter.train --work .training --preset gpu --compile  # minutes with CUDA and 16 cores, bf16
    python -m scripts.starter.train --work .training --stage denoiser --minutes 30
    python -m scripts.starter.train --work .training --start pipeline/renderfarm/starter    # goes on from weights that are there

Each stage is bounded by time (the learning rate falls by the clock), keeps a checkpoint in the work folder every two
minutes, and goes on from it when called again with more minutes. Losses go to `<work>/log.jsonl`, sample grids to
`<work>/samples-*.png`. Latents are cached once per autoencoder; captions are drawn anew at each step.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

from scripts.starter import model
from scripts.starter.data import Phrasings, Scenes, letter_share, scenes
from scripts.starter.sampling import grid, sample

STAGES = ("draw", "autoencoder", "latents", "decoder", "denoiser", "export")
_CHECKPOINT_EVERY_S = 120.0
_CAPTION_DROPPED = 0.1  # share of captions replaced by "", for classifier-free guidance (arXiv:2207.12598)
_WORDED = 0.4  # share of a denoiser's batch that is chosen for its word; 0.6 until words are learnt
_LETTERS = 5.0  # weight of an error where letters are, against 1 elsewhere
_CELLS = 16  # latents a side
_WIDTHS = (96, 128, 192)  # channels of the denoiser at 16x16, 8x8 and 4x4 latents: wide where letters are
_NARROW = (48, 96, 192)  # what two CPU cores can train
_HELD_BACK = 16  # pictures that the autoencoder's figures are of


@dataclass(frozen=True, slots=True)
class Preset:
    """How much data (scenes of the whole world, and more that bear a word) and time the stages get on a kind of machine."""

    pictures: int
    worded: int
    crops: int
    autoencoder_minutes: float
    batch: int
    denoiser_minutes: float
    decoder_minutes: float
    autoencoder_rate: float
    denoiser_rate: float
    widths: tuple[int, int, int]


PRESETS = {
    "cpu": Preset(10_000, 10_000, 8, 45.0, 32, 150.0, 15.0, 2e-3, 8e-4, _NARROW),
    "gpu": Preset(30_000, 30_000, 64, 0.8, 512, 3.6, 0.0, 2e-3, 1.2e-3, _WIDTHS),
    "smoke": Preset(48, 32, 2, 0.05, 4, 0.05, 0.05, 1e-3, 1e-3, (48, 32, 64)),
}


_scenes = cache(scenes)


@dataclass(frozen=True, slots=True)
class Run:
    """What every stage is told."""

    work: Path
    preset: Preset
    seed: int
    device: str
    pipeline: Path
    workers: int
    start: Path | None = None
    compiled: bool = False
    worded: float = _WORDED

    def scenes(self) -> Scenes:
        """The training scenes, drawn once."""
        return _scenes(self.work, self.preset.pictures, self.preset.worded, self.seed, self.workers)


class Average:
    """Exponential moving average of a module's parameters; the decay grows to its bound over the first steps."""

    def __init__(self, modules: torch.nn.Module, bound: float) -> None:
        self.bound = bound
        self.shadow = {name: value.detach().clone() for name, value in modules.named_parameters()}

    @torch.no_grad()
    def update(self, modules: torch.nn.Module, step: int) -> None:
        decay = min(self.bound, (1 + step) / (10 + step))
        torch._foreach_lerp_([self.shadow[name] for name, _ in modules.named_parameters()], list(modules.parameters()), 1 - decay)


def fit(
    run: Run,
    name: str,
    modules: torch.nn.Module,
    loss_of: Callable[[torch.Generator], dict[str, torch.Tensor]],
    minutes: float,
    rate: float,
    show: Callable[[Average], None],
) -> Average:
    """Minimise `loss_of(rng)["loss"]` for `minutes`, all calls together, and return the averaged parameters.

    Resumes from `<work>/<name>.pt`. The rate warms up over 100 steps and falls as a half cosine of the time used.
    """
    path = run.work / f"{name}.pt"
    average = Average(modules, 0.999)
    optimiser = torch.optim.AdamW(modules.parameters(), rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    step, used = 0, 0.0
    if path.exists():
        state = torch.load(path, map_location=run.device, weights_only=True)
        modules.load_state_dict(state["modules"])
        optimiser.load_state_dict(state["optimiser"])
        average.shadow, step, used = state["average"], state["step"], state["used"]
    rng = torch.manual_seed(run.seed * 1_000_003 + step)  # the CPU's, for choices; noise comes from the device's own
    mark, saved, logged = time.monotonic(), time.monotonic(), 0.0
    while used < minutes * 60:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * (0.01 + 0.99 * _half_cosine(used / (minutes * 60)))
        losses = loss_of(rng)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        average.update(modules, step)
        step += 1
        now = time.monotonic()
        used, mark = used + now - mark, now
        if now - logged > 15:
            logged = now
            _log(run, name, step, used, losses)
        if now - saved > _CHECKPOINT_EVERY_S or used >= minutes * 60:
            saved = now
            _checkpoint(path, modules, optimiser, average, step, used)
            with torch.random.fork_rng(devices=[]):  # what is shown shall not sway what follows
                show(average)
            mark = time.monotonic()
    return average


def _half_cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _log(run: Run, name: str, step: int, used: float, losses: dict[str, torch.Tensor]) -> None:
    row = {"stage": name, "step": step, "seconds": round(used, 1)}
    row |= {key: round(float(value.detach()), 5) for key, value in losses.items()}
    with (run.work / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def _checkpoint(path: Path, modules: Any, optimiser: Any, average: Average, step: int, used: float) -> None:
    """Write the state beside its final name first, so that a killed run never leaves half a checkpoint."""
    state = {"modules": modules.state_dict(), "optimiser": optimiser.state_dict(), "average": average.shadow}
    partial = path.with_suffix(".partial")
    torch.save(state | {"step": step, "used": used}, partial)
    partial.replace(path)


def _to_tensor(images: NDArray[np.uint8], device: str) -> torch.Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in -1..1, channels last."""
    tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    return tensor.contiguous(memory_format=torch.channels_last)


def train_autoencoder(run: Run) -> None:
    """128x128 crops, half of them lettering; L1 on pixels and on their differences, latents held to mean 0 and deviation 1."""
    data = run.scenes()
    torch.manual_seed(run.seed)
    vae = model.autoencoder()
    if run.start is not None:
        vae.load_state_dict(model.weights_of(run.start).vae.float().state_dict())
    vae.to(run.device, memory_format=torch.channels_last)

    def loss_of(rng: torch.Generator) -> dict[str, torch.Tensor]:
        target = _crops(run, data, rng)
        with _half(run):
            latents = vae.encoder(target)
            output = vae.decoder(latents + 0.05 * torch.randn_like(latents))
        return _reconstruction(output.float(), target, latents.float())

    def show(average: Average) -> None:
        _report_autoencoder(run, average.shadow, _held_back(run, data))

    minutes, rate = run.preset.autoencoder_minutes, run.preset.autoencoder_rate
    fit(run, "autoencoder", vae, loss_of, minutes, rate, show)


def train_decoder(run: Run) -> None:
    """The decoder alone, on the frozen encoder: cached latents stay valid, so it may run beside the denoiser's training."""
    data = run.scenes()
    torch.manual_seed(run.seed + 2)
    vae = trained_autoencoder(run).to(memory_format=torch.channels_last)
    vae.decoder.requires_grad_(True)

    def loss_of(rng: torch.Generator) -> dict[str, torch.Tensor]:
        target = _crops(run, data, rng)
        with _half(run):
            with torch.no_grad():
                encoded = vae.encoder(target)
            output = vae.decoder(encoded + 0.1 * torch.randn_like(encoded))
        losses = _reconstruction(output.float(), target, encoded.float())
        return losses | {"loss": losses["pixels"] + 0.5 * losses["edges"]}

    def show(average: Average) -> None:
        decoder = {f"decoder.{name}": value for name, value in average.shadow.items()}
        whole = vae.state_dict() | decoder
        _report_autoencoder(run, whole, _held_back(run, data))

    fit(run, "decoder", vae.decoder, loss_of, run.preset.decoder_minutes, 0.5 * run.preset.autoencoder_rate, show)


def _part_worded(even: int, size: int, part: int, worded: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """`size` random scenes, int64: `part` of those that bear a word, then the rest from the `even` ones that come first. Evenly drawn
    scenes hardly ever show letters; where the rest was drawn from both sets, lamps and counts were forgotten."""
    index = torch.randint(even, (size,), generator=rng)
    index[:part] = worded[torch.randint(len(worded), (part,), generator=rng)]
    return index


def _crops(run: Run, data: Scenes, rng: torch.Generator) -> torch.Tensor:
    """A batch of 128x128 crops, as `_to_tensor` gives them: half from anywhere, half from the middle of pictures that bear a word."""
    size = run.preset.crops
    index = _part_worded(data.even, size, size // 2, data.worded[:-_HELD_BACK], rng).tolist()
    corner = torch.randint(129, (size, 2), generator=rng)
    corner[: size // 2] = 36 + corner[: size // 2] % 65
    crops = [data.picture(i)[y : y + 128, x : x + 128] for i, (y, x) in zip(index, corner.tolist(), strict=True)]
    return _to_tensor(np.stack(crops), run.device)


def _held_back(run: Run, data: Scenes) -> torch.Tensor:
    """The last pictures, which no autoencoder is trained on; all bear a word."""
    return _to_tensor(np.stack([data.picture(index) for index in range(len(data) - _HELD_BACK, len(data))]), run.device)


def _reconstruction(output: torch.Tensor, target: torch.Tensor, latents: torch.Tensor) -> dict[str, torch.Tensor]:
    error = output - target
    pixels = error.abs().mean()
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    spread = (latents.var((0, 2, 3)) + 1e-4).sqrt()
    moments = latents.mean((0, 2, 3)).square().mean() + (spread - 1).square().mean()
    return {"loss": pixels + 0.5 * edges + 0.02 * moments, "pixels": pixels, "edges": edges, "moments": moments}


@torch.no_grad()
def _report_autoencoder(run: Run, state: dict[str, torch.Tensor], images: torch.Tensor) -> None:
    vae = model.autoencoder().to(run.device)
    vae.load_state_dict(state)
    output = vae.decoder(vae.encoder(images)).clamp(-1, 1)
    psnr = (10 * torch.log10(4 / (output - images).square().mean((1, 2, 3)))).mean()
    _log(run, "autoencoder/held_back", 0, 0.0, {"psnr_db": psnr})
    both = torch.cat([images[:8], output[:8]]).permute(0, 2, 3, 1).add(1).mul(127.5).round()
    grid(both.byte().cpu().numpy(), run.work / "samples-autoencoder.png", columns=8)


def trained_autoencoder(run: Run) -> Any:
    """The averaged autoencoder of the last checkpoints, else that of the weights to go on from; in evaluation mode."""
    vae, own = model.autoencoder(), run.work / "autoencoder.pt"
    if own.exists() or run.start is None:
        vae.load_state_dict(torch.load(own, map_location="cpu", weights_only=True)["average"])
    else:
        vae.load_state_dict(model.weights_of(run.start).vae.float().state_dict())
    refined = run.work / "decoder.pt"
    if refined.exists():
        vae.decoder.load_state_dict(torch.load(refined, map_location="cpu", weights_only=True)["average"])
    return vae.eval().requires_grad_(False).to(run.device)


@torch.no_grad()
def latents(run: Run) -> torch.Tensor:
    """Latents of all training pictures, float16 (N, C, 16, 16); computed once per autoencoder checkpoint."""
    source, path = run.work / "autoencoder.pt", run.work / "latents.pt"
    data, of = run.scenes(), [run.seed, run.preset.pictures, run.preset.worded]
    if path.exists() and not (source.exists() and path.stat().st_mtime < source.stat().st_mtime):
        known = torch.load(path, weights_only=True)
        if known.get("of") == of:
            return known["latents"]  # type: ignore[no-any-return]
    vae = trained_autoencoder(run).to(memory_format=torch.channels_last)
    parts = []
    for start in range(0, len(data), 64):
        batch = np.stack([data.picture(index) for index in range(start, min(start + 64, len(data)))])
        with _half(run):
            part = vae.encoder(_to_tensor(batch, run.device))
        parts.append(part.to("cpu", torch.float16))
    cached = torch.cat(parts)
    spread = cached.float().std((0, 2, 3))
    _log(run, "latents", len(cached), 0.0, {"std_min": spread.min(), "std_max": spread.max()})
    torch.save({"latents": cached, "of": of}, path)
    return cached


def _conditioned(run: Run) -> tuple[Any, torch.nn.ModuleDict]:
    """Tokenizer, and text encoder and denoiser: new ones where those to go on from are of another width."""
    torch.manual_seed(run.seed + 1)
    words = model.tokenizer()
    text, unet = model.text_encoder(words), model.denoiser(run.preset.widths)
    start = None if run.start is None else model.weights_of(run.start)
    if start is not None and tuple(start.unet.config.block_out_channels) == run.preset.widths:
        text.load_state_dict(start.text_encoder.float().state_dict())
        model.take_over(unet, start.unet.float())
    return words, torch.nn.ModuleDict({"text": text, "unet": unet.to(memory_format=torch.channels_last)}).to(run.device)


def train_denoiser(run: Run) -> None:
    """Text encoder and denoiser together: v-prediction on cached latents, a random phrasing at each step; a part of the
    pictures is chosen for its word, the rest evenly from the whole world; an error in letters counts five times."""
    clean = latents(run).to(run.device)
    data = run.scenes()
    words, modules = _conditioned(run)
    phrasings = Phrasings(data.specs, words, run.device)
    lettering = data.lettering.to(run.device)
    alphas = model.schedule().alphas_cumprod.to(run.device)
    vae = trained_autoencoder(run)
    size, part = run.preset.batch, round(run.worded * run.preset.batch)
    unet = torch.compile(modules["unet"]) if run.compiled else modules["unet"]

    def loss_of(rng: torch.Generator) -> dict[str, torch.Tensor]:
        index = _part_worded(data.even, size, part, data.worded, rng).to(run.device)
        ids = phrasings.pick(index, rng, dropped=_CAPTION_DROPPED)
        time_step = _time_steps(size, part // 2, rng).to(run.device)
        x = clean[index].float().contiguous(memory_format=torch.channels_last)
        noise = torch.randn_like(x)
        signal = alphas[time_step].sqrt()[:, None, None, None]
        sigma = (1 - alphas[time_step]).sqrt()[:, None, None, None]
        with _half(run), _attention(run):
            hidden = modules["text"](input_ids=ids)[0]
            output = unet(signal * x + sigma * noise, time_step, hidden).sample
        error = (output.float() - (signal * noise - sigma * x)).square().mean(1, keepdim=True)
        letters = letter_share(lettering[index], _CELLS)
        of_letters = (error * letters).sum() / letters.sum().clamp(min=1.0)
        return {"loss": (error * (1 + (_LETTERS - 1) * letters)).mean(), "error": error.mean(), "letters": of_letters}

    def show(average: Average) -> None:
        pipeline = _pipeline(run, vae, words, average.shadow)
        grid(sample(pipeline, _SHOWN, seed=7), run.work / "samples-denoiser.png", columns=8)

    minutes, rate = run.preset.denoiser_minutes, run.preset.denoiser_rate
    fit(run, "denoiser", modules, loss_of, minutes, rate, show)


def _attention(run: Run) -> AbstractContextManager[None]:
    """On a CPU attention by plain products: at 256 tokens the backward pass of torch 2.13's flash attention is slower than all
    else in a step together (1.10 s a step of 32 against 0.59 s, one thread)."""
    return sdpa_kernel(SDPBackend.MATH) if run.device == "cpu" else nullcontext()


def _half(run: Run) -> AbstractContextManager[None]:
    """bf16 where the device has it. A CPU without it (AVX2 only) imitates it, nine times slower than float32."""
    able = run.device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast(run.device, torch.bfloat16, enabled=able)


def _time_steps(size: int, part: int, rng: torch.Generator) -> torch.Tensor:
    """int64 (size,) in 0..999: logit-normal for the first `part` (arXiv:2403.03206), whose letters are decided at middling noise;
    even for the rest. Not for all that bear a word: what a picture is of is decided in the first step, at nearly pure noise."""
    steps = torch.randint(1000, (size,), generator=rng)
    steps[:part] = (1000 * torch.randn(part, generator=rng).sigmoid()).long().clamp(max=999)
    return steps


def _pipeline(run: Run, vae: Any, words: Any, shadow: dict[str, torch.Tensor]) -> Any:
    text, unet = model.text_encoder(words), model.denoiser(run.preset.widths)
    averaged = torch.nn.ModuleDict({"text": text, "unet": unet})
    averaged.load_state_dict(shadow)
    return model.assemble(vae, words, text.eval(), unet.eval()).to(run.device)


_SHOWN = (
    "a red mug on a wooden table", "two blue bottles in front of a brick wall", "three pink phones at the beach",
    "a green lamp in a plain studio", 'a white T-shirt with the word "SALE" in the garden',
    'a yellow sign that says "OPEN" on the beach', "a black tote bag on a wooden table", "an orange box in the garden",
    "a purple mug in a plain studio", "two white lamps in front of a brick wall", "three brown boxes on a wooden table",
    "a blue phone in the garden", 'a black sign that says "TEA" in a plain studio', "a pink T-shirt by a brick wall",
    "a green bottle at the beach", 'a red tote bag with the word "NEW" on a plain background',
)  # fmt: skip


def export(run: Run) -> None:
    """Write the averaged weights to the pipeline folder in fp16 safetensors."""
    state = torch.load(run.work / "denoiser.pt", map_location="cpu", weights_only=True)
    at_rest = replace(run, device="cpu")
    parameters = model.save(_pipeline(at_rest, trained_autoencoder(at_rest), model.tokenizer(), state["average"]), run.pipeline)
    print(json.dumps({"folder": str(run.pipeline), "parameters": parameters, "steps": state["step"]}))


def main() -> None:
    """Parse the arguments and run the stages in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".training"), help="folder for data, checkpoints and logs")
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--stage", choices=STAGES, help="only this stage; all in order otherwise")
    parser.add_argument("--minutes", type=float, help="time of the chosen training stage, instead of the preset's")
    parser.add_argument("--scenes", type=int, help="of either set, instead of the preset's")
    parser.add_argument("--worded", type=float, default=_WORDED, help="share of the denoiser's batch that is chosen for its word")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--pipeline", type=Path, default=Path(".training/pipeline"), help="folder to export to")
    parser.add_argument("--start", type=Path, help="a pipeline folder of the same sizes whose weights training goes on from")
    parser.add_argument("--compile", action="store_true", help="compile the denoiser (needs a C++ compiler; a quarter faster on a CPU)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    preset = PRESETS[arguments.preset]
    if arguments.minutes is not None:
        bounds = dict.fromkeys(("autoencoder_minutes", "denoiser_minutes", "decoder_minutes"), arguments.minutes)
        preset = replace(preset, **bounds)
    if arguments.scenes is not None:
        preset = replace(preset, pictures=arguments.scenes, worded=arguments.scenes)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True  # every batch has one shape
    workers = (os.cpu_count() or 1) if arguments.preset == "gpu" else arguments.threads
    run = Run(
        arguments.work, preset, arguments.seed, device, arguments.pipeline, workers, arguments.start, arguments.compile, arguments.worded
    )
    actions: dict[str, Callable[[], object]] = {
        "draw": run.scenes,
        "autoencoder": lambda: train_autoencoder(run),
        "latents": lambda: latents(run),
        "decoder": lambda: train_decoder(run),
        "denoiser": lambda: train_denoiser(run),
        "export": lambda: export(run),
    }
    for stage in STAGES if arguments.stage is None else (arguments.stage,):
        actions[stage]()


if __name__ == "__main__":
    main()
