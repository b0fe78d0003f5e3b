"""Tiny random weights of every family, and attempts, for the tests. Nothing is downloaded; each is built once per process.

Pictures of random weights are coloured noise that depends on prompt and seed, and that is all the tests need.
"""

from __future__ import annotations

import atexit
import inspect
import io
import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers.processors import TemplateProcessing
from transformers.convert_slow_tokenizer import bytes_to_unicode

from renderfarm.schema import Attempt, PlannedImage

TEXT_LENGTH = 77


def attempt(
    name: str = "a",
    *,
    prompt: str = "a red mug",
    negative: str = "",
    seed: int = 7,
    size: tuple[int, int] = (64, 64),
    steps: int = 2,
    guidance: float = 4.0,
    adapter: str | None = None,
    number: int = 1,
) -> Attempt:
    """Returns an attempt at an image of `size` (width, height) in pixels."""
    image = PlannedImage(
        image_id=name,
        row_id=f"row-{name}",
        row_digest="0" * 64,
        index=0,
        prompt=prompt,
        negative_prompt=negative,
        seed=seed,
        width=size[0],
        height=size[1],
        steps=steps,
        guidance=guidance,
        text=None,
        objects=(),
        adapter=adapter,
        init_image=None,
        init_digest=None,
        mask_image=None,
        mask_digest=None,
        strength=None,
        tags=(),
    )
    return Attempt(image, number, seed)


def png(levels: np.ndarray) -> bytes:
    """Returns a PNG file of uint8 (H, W, 3) or (H, W)."""
    out = io.BytesIO()
    Image.fromarray(levels).save(out, "PNG")
    return out.getvalue()


@cache
def folder_of(name: str) -> Path:
    """Returns the folder of the tiny stand-in `name` (a key of `BUILDERS`). Tests share it: who changes it, copies it first."""
    folder = _scratch() / name
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own deprecations while constructing
        torch.manual_seed(1)
        (BUILDERS | MASKED)[name]().save_pretrained(folder, safe_serialization=True)
    return folder


@cache
def _scratch() -> Path:
    """A folder that lives as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="standins-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def control_of(name: str) -> Path:
    """Returns the folder of a tiny ControlNet for the stand-in `name`. Its last layers are random, not zero as before training, so that
    it counts."""
    folder = _scratch() / f"{name}-control"
    if name.startswith("flux"):
        return _flux_control(folder, 4 if name == "flux_union" else None)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(2)
        unet = diffusers.UNet2DConditionModel.from_pretrained(folder_of(name), subfolder="unet")
        control = diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 8, 16))
        for layer in (*control.controlnet_down_blocks, control.controlnet_mid_block, control.controlnet_cond_embedding.conv_out):
            torch.nn.init.normal_(layer.weight, std=0.2)
        control.save_pretrained(folder, safe_serialization=True)
    return folder


def _flux_control(folder: Path, modes: int | None) -> Path:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(2)
        transformer = diffusers.FluxTransformer2DModel.from_pretrained(folder_of("flux"), subfolder="transformer")
        options = {name: value for name, value in transformer.config.items() if not name.startswith("_")} | {"num_mode": modes}
        known = inspect.signature(diffusers.FluxControlNetModel.__init__).parameters
        control = diffusers.FluxControlNetModel(**{name: value for name, value in options.items() if name in known})
        for parameter in control.parameters():
            torch.nn.init.normal_(parameter, std=0.08)
        control.save_pretrained(folder, safe_serialization=True)
    return folder


def byte_alphabet() -> list[str]:
    """Returns the 256 printable characters that stand for bytes 0..255 in byte-level BPE."""
    return [character for _, character in sorted(bytes_to_unicode().items())]


def clip_tokenizer() -> Any:
    """Returns a CLIP tokenizer without merges: one token per byte, and one per byte that ends a word. 514 tokens."""
    letters = byte_alphabet()
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=TEXT_LENGTH)


def text_encoder(tokenizer: Any, width: int) -> Any:
    """Returns a two-layer CLIP text encoder of `width` channels."""
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TEXT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    return transformers.CLIPTextModel(config).eval()


def t5_tokenizer() -> Any:
    """A Unigram tokenizer of single characters."""
    letters = [("▁", -2.0), *((chr(code), -3.0) for code in range(33, 127))]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters]
    return transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=64)


def t5_encoder(tokenizer: Any) -> Any:
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0, eos_token_id=1
    )
    return transformers.T5EncoderModel(config).eval()


def clip_with_projection(tokenizer: Any, width: int) -> Any:
    config = text_encoder(tokenizer, width).config
    config.projection_dim = width
    return transformers.CLIPTextModelWithProjection(config).eval()


def vae(channels: int, **config: Any) -> Any:
    """A VAE that shrinks by 8; wide enough at the end that pictures are not grey."""
    model = diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=channels,
        sample_size=64,
        **config,
    )
    return model.eval()


def unet(cross: int, **config: Any) -> Any:
    options: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": cross,
        "attention_head_dim": 2,
    }
    return diffusers.UNet2DConditionModel(**(options | config)).eval()


SD_SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def sd(scheduler: Any, **unet_config: Any) -> Any:
    tokenizer = clip_tokenizer()
    return diffusers.StableDiffusionPipeline(
        vae=vae(4),
        text_encoder=text_encoder(tokenizer, 32),
        tokenizer=tokenizer,
        unet=unet(32, **unet_config),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd_epsilon() -> Any:
    """Stable Diffusion 1.5: epsilon prediction, PNDM."""
    return sd(diffusers.PNDMScheduler(**SD_SCHEDULE, skip_prk_steps=True, set_alpha_to_one=False))


def sd2() -> Any:
    """Stable Diffusion 2: v-prediction, DDIM. The last layers are scaled: pixels span the range, and the prompt moves them."""
    scheduler = diffusers.DDIMScheduler(
        **SD_SCHEDULE, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, timestep_spacing="trailing"
    )
    pipe = sd(scheduler)
    with torch.no_grad():
        pipe.vae.decoder.conv_out.weight *= 0.7
        for block in (*pipe.unet.down_blocks, pipe.unet.mid_block, *pipe.unet.up_blocks):
            for attention in getattr(block, "attentions", ()):
                attention.proj_out.weight *= 6.0
    return pipe


def lcm() -> Any:
    """A latent consistency model: guidance enters the UNet as an embedding, few steps."""
    scheduler = diffusers.LCMScheduler(**SD_SCHEDULE, set_alpha_to_one=True)
    base = sd(scheduler, time_cond_proj_dim=8)
    return diffusers.LatentConsistencyModelPipeline(**base.components, requires_safety_checker=False)


def sdxl(scheduler: Any = None) -> Any:
    """SDXL: two text encoders, size and crop as conditions, zeros for an empty negative prompt."""
    tokenizer = clip_tokenizer()
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(4, force_upcast=True),
        text_encoder=text_encoder(tokenizer, 32),
        text_encoder_2=clip_with_projection(tokenizer, 32),
        tokenizer=tokenizer,
        tokenizer_2=clip_tokenizer(),
        unet=unet(
            64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=32 + 6 * 8,
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
        ),
        scheduler=scheduler or diffusers.EulerDiscreteScheduler(**SD_SCHEDULE),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def sdxl_turbo() -> Any:
    """A few-step child of SDXL: Euler ancestral, trailing, no guidance."""
    return sdxl(diffusers.EulerAncestralDiscreteScheduler(**SD_SCHEDULE, timestep_spacing="trailing"))


def sd3() -> Any:
    """Stable Diffusion 3.5: three text encoders, MMDiT with query/key norms, flow matching, 16 latent channels."""
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=64,
            caption_projection_dim=32,
            pooled_projection_dim=64,
            pos_embed_max_size=16,
            qk_norm="rms_norm",
            dual_attention_layers=(0,),
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_with_projection(clip, 32),
        tokenizer=clip,
        text_encoder_2=clip_with_projection(clip, 32),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=_wide(t5_encoder(t5)),
        tokenizer_3=t5,
    )


def _wide(encoder: Any) -> Any:
    """SD 3 pads CLIP's channels to T5's: T5 must be at least as wide as both CLIPs together."""
    config = encoder.config
    config.d_model = 64
    return transformers.T5EncoderModel(config).eval()


def flux(guidance_embeds: bool = True) -> Any:
    """FLUX.1: packed latents, double and single blocks, distilled guidance."""
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=guidance_embeds),
        vae=vae(4, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=text_encoder(clip, 32),
        tokenizer=clip,
        text_encoder_2=t5_encoder(t5),
        tokenizer_2=t5,
        transformer=diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            guidance_embeds=guidance_embeds,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def flux_schnell() -> Any:
    """FLUX.1 schnell: four steps, no guidance at all."""
    return flux(guidance_embeds=False)


def flux2() -> Any:
    """FLUX.2 klein: a Qwen3 whose inner layers are the prompt, 2×2 patches normalised by the VAE's batch norm."""
    words = {word: i for i, word in enumerate([*byte_alphabet(), "<|endoftext|>", "<|im_start|>", "<|im_end|>"])}
    tokenizer = transformers.Qwen2Tokenizer(vocab=words, merges=[], model_max_length=64)
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }} {{ message['content'] }}<|im_end|>{% endfor %}"
    )
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=28,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    return diffusers.Flux2KleinPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=diffusers.AutoencoderKLFlux2(
            block_out_channels=(8, 8, 16, 16), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=64
        ).eval(),
        text_encoder=transformers.Qwen3ForCausalLM(config).eval(),
        tokenizer=tokenizer,
        transformer=diffusers.Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
    )


def pixart() -> Any:
    """PixArt-Sigma: T5 only, a DiT with cross attention, learned variance."""
    t5 = t5_tokenizer()
    return diffusers.PixArtSigmaPipeline(
        tokenizer=t5,
        text_encoder=t5_encoder(t5),
        vae=vae(4),
        transformer=diffusers.PixArtTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            cross_attention_dim=32,
            sample_size=8,
            caption_channels=32,
        ),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    )


def sana() -> Any:
    """Sana: linear attention, a small language model as text encoder, a VAE that shrinks by 32."""
    letters = {word: i for i, word in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "▁", *map(chr, range(33, 127))])}
    tokenizer = transformers.GemmaTokenizer(vocab=letters, merges=[], model_max_length=64)
    config = transformers.Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        query_pre_attn_scalar=8,
    )
    return diffusers.SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=transformers.Gemma2Model(config).eval(),
        vae=diffusers.AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock",) * 5 + ("EfficientViTBlock",),
            decoder_block_types=("ResBlock",) * 5 + ("EfficientViTBlock",),
            encoder_block_out_channels=(8,) * 6,
            decoder_block_out_channels=(8,) * 6,
            encoder_layers_per_block=(1,) * 6,
            decoder_layers_per_block=(1,) * 6,
            encoder_qkv_multiscales=((),) * 5 + ((5,),),
            decoder_qkv_multiscales=((),) * 5 + ((5,),),
            scaling_factor=0.41407,
        ),
        transformer=diffusers.SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=32,
            sample_size=4,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def sd_wide() -> Any:
    """Stable Diffusion's architecture with 16 latent channels, as renderfarm's starter weights have them."""
    pipe = sd(diffusers.DDIMScheduler(**SD_SCHEDULE, clip_sample=False), in_channels=16, out_channels=16)
    pipe.register_modules(vae=vae(16))
    return pipe


def chat_tokenizer() -> Any:
    """A Qwen tokenizer of single bytes, with a chat template that thinks or does not."""
    words = {word: i for i, word in enumerate([*byte_alphabet(), "<|endoftext|>", "<|im_start|>", "<|im_end|>"])}
    tokenizer = transformers.Qwen2Tokenizer(vocab=words, merges=[], model_max_length=512)
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }} {{ message['content'] }}<|im_end|>{% endfor %}"
    )
    return tokenizer


def z_image() -> Any:
    """Z-Image: a Qwen3 whose last layer but one is the prompt, one stream of text and picture, guidance that is off at 0."""
    tokenizer = chat_tokenizer()
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(4, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=transformers.Qwen3Model(config).eval(),
        tokenizer=tokenizer,
        transformer=_of_numbers(
            diffusers.ZImageTransformer2DModel(
                in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16, axes_dims=[4, 6, 6],
                axes_lens=[512, 64, 64],
            )
        ),
    )  # fmt: skip


def _of_numbers(model: Any) -> Any:
    """Fills what a model leaves empty or zero, as before training, with small random numbers."""
    for parameter in model.parameters():
        if not parameter.isfinite().all() or not parameter.abs().max() > 0 or parameter.abs().max() > 1e3:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def qwen_image() -> Any:
    """Qwen-Image: the language side of Qwen2.5-VL as text encoder, a VAE of videos, true guidance."""
    tokenizer = chat_tokenizer()
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 2, "rope_parameters": {"type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1000000.0},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16, "fullatt_block_indexes": [0],
        },
    )  # fmt: skip
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    ).eval()  # fmt: skip
    with torch.no_grad():  # so that the prompt moves pixels
        transformer.txt_in.weight *= 30.0
        transformer.proj_out.weight *= 6.0
    return diffusers.QwenImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
        ).eval(),
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=tokenizer,
        transformer=transformer,
    )


def chroma() -> Any:
    """Chroma: FLUX without distilled guidance; T5 alone, its padding masked."""
    t5 = t5_tokenizer()
    return diffusers.ChromaPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(4, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=t5_encoder(t5),
        tokenizer=t5,
        transformer=diffusers.ChromaTransformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32,
            axes_dims_rope=(4, 4, 8), approximator_num_channels=8, approximator_hidden_dim=16, approximator_layers=1,
        ).eval(),
    )  # fmt: skip


def flux_kontext() -> Any:
    """FLUX.1 Kontext: FLUX that looks at a picture and follows an instruction."""
    return diffusers.FluxKontextPipeline(**{k: v for k, v in flux().components.items() if v is not None})


def lumina2() -> Any:
    """Lumina 2: Gemma 2 reads the prompt behind a long sentence of its own, one stream of text and picture."""
    words = (
        "You are an assistant designed to generate superior images with the degree of image-text alignment based on textual prompts or user"
    )
    spelled = [*(f"{word}▁" for word in words.split()), "prompts.▁", "<Prompt▁", "Start>▁"]
    merges = [(word[:at], word[at]) for word in spelled for at in range(1, len(word))]
    vocabulary = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *map(chr, range(33, 127)), *dict.fromkeys(a + b for a, b in merges)]
    tokenizer = transformers.GemmaTokenizer(
        vocab={word: at for at, word in enumerate(vocabulary)}, merges=list(dict.fromkeys(merges)), model_max_length=512
    )
    config = transformers.Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, query_pre_attn_scalar=8,
    )  # fmt: skip
    return diffusers.Lumina2Pipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=vae(4, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=transformers.Gemma2Model(config).eval(),
        tokenizer=tokenizer,
        transformer=_of_numbers(
            diffusers.Lumina2Transformer2DModel(
                sample_size=8, in_channels=4, hidden_size=32, num_layers=1, num_refiner_layers=1, num_attention_heads=2, num_kv_heads=1,
                multiple_of=16, axes_dim_rope=(8, 4, 4), cap_feat_dim=32,
            )
        ),
    )  # fmt: skip


def cogview4() -> Any:
    """CogView 4: GLM reads the prompt, sizes are conditions."""
    tokenizer, begin = chat_tokenizer(), "<|im_start|>"
    marks = [(begin, tokenizer.convert_tokens_to_ids(begin))]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{begin} $A", special_tokens=marks)
    config = transformers.GlmConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, pad_token_id=0,
    )  # fmt: skip
    return diffusers.CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=transformers.GlmModel(config).eval(),
        vae=vae(4),
        transformer=_of_numbers(
            diffusers.CogView4Transformer2DModel(
                in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4, out_channels=4, text_embed_dim=32,
                time_embed_dim=8, condition_dim=4,
            )
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True, time_shift_type="linear"
        ),
    )  # fmt: skip


def sd_inpaint() -> Any:
    """Stable Diffusion trained to fill masks: mask and masked picture are five more channels."""
    base = sd(diffusers.DDIMScheduler(**SD_SCHEDULE), in_channels=9)
    return diffusers.StableDiffusionInpaintPipeline(**base.components, requires_safety_checker=False)


def sdxl_inpaint() -> Any:
    parts = sdxl().components
    options = {name: value for name, value in parts["unet"].config.items() if not name.startswith("_")}
    parts["unet"] = diffusers.UNet2DConditionModel(**(options | {"in_channels": 9})).eval()
    return diffusers.StableDiffusionXLInpaintPipeline(
        **{name: part for name, part in parts.items() if part is not None}, add_watermarker=False, force_zeros_for_empty_prompt=True
    )


def flux_fill() -> Any:
    """FLUX.1 Fill: FLUX with the masked picture and the mask (64 numbers a patch of 8×8) beside the latents."""
    parts = {name: part for name, part in flux().components.items() if part is not None}
    options = {name: value for name, value in parts["transformer"].config.items() if not name.startswith("_")}
    parts["transformer"] = diffusers.FluxTransformer2DModel(**(options | {"in_channels": 16 + 16 + 256, "out_channels": 16})).eval()
    return diffusers.FluxFillPipeline(**{name: part for name, part in parts.items() if name not in ("image_encoder", "feature_extractor")})


MASKED: dict[str, Callable[[], Any]] = {"sd_inpaint": sd_inpaint, "sdxl_inpaint": sdxl_inpaint, "flux_fill": flux_fill}
"""As `BUILDERS`, of weights that draw only inside masks."""

BUILDERS: dict[str, Callable[[], Any]] = {
    "sd": sd_epsilon,
    "sd2": sd2,
    "sd_wide": sd_wide,
    "lcm": lcm,
    "sdxl": sdxl,
    "sdxl_turbo": sdxl_turbo,
    "sd3": sd3,
    "flux": flux,
    "flux_schnell": flux_schnell,
    "flux2": flux2,
    "pixart": pixart,
    "sana": sana,
    "z_image": z_image,
    "qwen_image": qwen_image,
    "chroma": chroma,
    "flux_kontext": flux_kontext,
    "lumina2": lumina2,
    "cogview4": cogview4,
}
"""Stand-in → builder. Each has the architecture of its family, with layers of a few channels."""
