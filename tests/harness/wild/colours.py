"""Pictures with colour profiles, each with its colours in sRGB beside it."""

from __future__ import annotations

import io

from PIL import Image, ImageCms

from tests.harness import profiles
from tests.harness.wild.case import Wild, encode, scene


def _shown(picture: Image.Image, profile: bytes) -> bytes:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    transform = ImageCms.ImageCmsTransform(source, target, picture.mode, "RGB")
    return encode(transform.apply(picture), "PNG", icc_profile=None)


def coloured() -> list[Wild]:
    picture = scene()
    spaces = {
        "Display P3": profiles.rgb(profiles.DISPLAY_P3),
        "Adobe RGB": profiles.rgb(profiles.ADOBE_RGB, 2.19921875),
        "ProPhoto": profiles.rgb(profiles.PROPHOTO, 1.8),
        "sRGB": profiles.rgb(profiles.SRGB),
        "sRGB of gamma 1.8": profiles.rgb(profiles.SRGB, 1.8),
        "Display P3 in three segments": profiles.rgb(profiles.DISPLAY_P3) + bytes(150_000),
    }
    files = []
    for name, profile in spaces.items():
        shown = _shown(picture, profile)
        files += [
            Wild(f"jpeg: {name}", "jpeg", encode(picture, "JPEG", quality=95, icc_profile=profile), shown),
            Wild(f"png: {name}", "png", encode(picture, "PNG", icc_profile=profile), shown),
            Wild(f"webp: {name}", "webp", encode(picture, "WEBP", lossless=True, icc_profile=profile), shown),
        ]
    wide = spaces["Display P3"]
    clear = picture.copy()
    clear.putalpha(Image.linear_gradient("L").resize(picture.size).point(lambda level: 255 if level > 100 else 0))
    on_white = Image.open(io.BytesIO(_shown(picture, wide))).convert("RGBA")
    on_white.putalpha(clear.getchannel("A"))
    on_white = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), on_white).convert("RGB")
    colours = picture.convert("P")
    grey = picture.convert("L")
    ink = picture.convert("CMYK")
    files += [
        Wild("png: Display P3 and alpha", "png", encode(clear, "PNG", icc_profile=wide), encode(on_white, "PNG")),
        Wild(
            "png: Display P3 palette",
            "png",
            encode(colours, "PNG", icc_profile=wide),
            _shown(colours.convert("RGB"), wide),
        ),
        Wild(
            "jpeg: CMYK",
            "jpeg",
            encode(ink, "JPEG", quality=95, icc_profile=profiles.cmyk()),
            _shown(ink, profiles.cmyk()),
        ),
    ]
    for name, profile in {"grey of gamma 1.8": profiles.grey(1.8), "grey of gamma 1": profiles.grey(1.0)}.items():
        shown = _shown(grey, profile)
        files += [
            Wild(f"jpeg: {name}", "jpeg", encode(grey, "JPEG", quality=95, icc_profile=profile), shown),
            Wild(f"png: {name}", "png", encode(grey, "PNG", icc_profile=profile), shown),
            Wild(f"png: {name} and alpha", "png", encode(grey.convert("LA"), "PNG", icc_profile=profile), shown),
        ]
    linear = profiles.rgb(profiles.ADOBE_RGB, 1.0)
    shown = _shown(grey.convert("RGB"), linear)
    files += [
        Wild("jpeg: grey with a profile for RGB", "jpeg", encode(grey, "JPEG", quality=95, icc_profile=linear), shown),
        Wild("png: grey with a profile for RGB", "png", encode(grey, "PNG", icc_profile=linear), shown),
    ]
    plain = encode(picture, "PNG")
    for name, profile in {"grey": profiles.grey(1.0), "CMYK": profiles.cmyk(), "nothing": bytes(500)}.items():
        data = encode(picture, "PNG", icc_profile=profile)
        files.append(Wild(f"png: RGB with a profile for {name}", "png", data, plain))
    whole = spaces["Adobe RGB"]
    for name, broken in {
        "cut to its head": whole[:128],
        "cut to a half": whole[: len(whole) // 2],
        "of a table that points past its end": whole[:132] + b"\xff" * 60 + whole[192:],
        "of 128 bytes and zeros": whole[:128] + bytes(400),
    }.items():
        files += [
            Wild(f"jpeg: a profile {name}", "jpeg", encode(picture, "JPEG", quality=95, icc_profile=broken), plain),
            Wild(f"png: a profile {name}", "png", encode(picture, "PNG", icc_profile=broken), plain),
        ]
    return files
