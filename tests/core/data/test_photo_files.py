"""Picture, mask and caption files, as cameras, programs and editors write them."""

from __future__ import annotations

import os
import struct

import numpy
import pytest
import torch
from PIL import Image, ImageOps

from comfyui_personalize.core.data.photo_files import decode_text, fit_mask, read_caption, read_mask, read_picture
from comfyui_personalize.core.errors import InputError

ORIENTATION = 0x0112
UNDO = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE",
        8: "ROTATE_270"}
"""How a camera that writes this orientation has its sensor's pixels, made from the upright picture."""


def upright(width=24, height=16):
    """A picture without any symmetry."""
    ramp = numpy.linspace(0, 255, width * height * 3).reshape(height, width, 3)
    return Image.fromarray(ramp.astype(numpy.uint8))


def pixels(image):
    return torch.from_numpy(numpy.array(image.convert("RGB")).astype(numpy.float32) / 255)


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_camera_is_turned_upright(tmp_path, orientation, ending):
    image = upright()
    stored = image.transpose(Image.Transpose[UNDO[orientation]]) if orientation > 1 else image
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"photo.{ending}"
    stored.save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    assert torch.equal(read_picture(path).pixels, pixels(image))


def test_a_phone_photo_is_turned_and_keeps_its_colours(tmp_path):
    image, exif = upright(64, 48), Image.Exif()
    exif[ORIENTATION] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.jpg", exif=exif, quality=98)
    assert (read_picture(tmp_path / "phone.jpg").pixels - pixels(image)).abs().mean() < 0.01


def test_damaged_exif_leaves_the_picture_as_it_is(tmp_path, monkeypatch):
    upright().save(tmp_path / "photo.png")

    def fail(*_, **__):
        raise struct.error("unpack requires a buffer of 4 bytes")

    monkeypatch.setattr(ImageOps, "exif_transpose", fail)
    assert torch.equal(read_picture(tmp_path / "photo.png").pixels, pixels(upright()))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    image = upright().convert(mode)
    image.save(tmp_path / "photo.tif")
    assert torch.equal(read_picture(tmp_path / "photo.tif").pixels, pixels(Image.open(tmp_path / "photo.tif")))


def test_a_cmyk_jpeg_shows_its_colours(tmp_path):
    Image.new("RGB", (16, 16), (200, 40, 90)).convert("CMYK").save(tmp_path / "print.jpg", quality=98)
    shown = read_picture(tmp_path / "print.jpg").pixels.mean((0, 1)) * 255
    assert torch.allclose(shown, torch.tensor([200.0, 40.0, 90.0]), atol=3)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_grey_of_16_bits_keeps_its_brightness(tmp_path, ending):
    values = numpy.linspace(0, 65535, 16 * 16).reshape(16, 16).astype(numpy.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{ending}")
    shown = read_picture(tmp_path / f"deep.{ending}").pixels
    assert shown.shape == (16, 16, 3)
    assert torch.allclose(shown[..., 1], torch.from_numpy(values.astype(numpy.float32)) / 65535)


def test_grey_in_floats_is_read_and_another_scale_is_refused(tmp_path):
    values = numpy.linspace(0, 1, 256).reshape(16, 16).astype(numpy.float32)
    Image.fromarray(values).save(tmp_path / "float.tif")
    Image.fromarray(values * 255).save(tmp_path / "large.tif")
    assert torch.equal(read_picture(tmp_path / "float.tif").pixels[..., 0], torch.from_numpy(values))
    with pytest.raises(InputError, match="images: got large.tif with values 0 to 255, expected values 0 to 1"):
        read_picture(tmp_path / "large.tif")


def transparent(mode):
    """Left half transparent, in every way that PNG knows; its hidden colour is not white."""
    if mode == "P":
        image = Image.new("P", (16, 8), 0)
        image.putpalette([255, 0, 255, 10, 200, 30])
        image.paste(1, (8, 0, 16, 8))
        image.info["transparency"] = 0
        return image
    if mode == "RGB":  # one colour stands for "transparent"
        image = Image.new("RGB", (16, 8), (255, 0, 255))
        image.paste((10, 200, 30), (8, 0, 16, 8))
        image.info["transparency"] = (255, 0, 255)
        return image
    image = Image.new("RGBA", (16, 8), (255, 0, 255, 0))
    image.paste((10, 200, 30, 255), (8, 0, 16, 8))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_of_every_kind_becomes_opacity(tmp_path, mode):
    image = transparent(mode)
    image.save(tmp_path / "cut.png", **({"transparency": image.info["transparency"]} if mode in ("P", "RGB") else {}))
    shown = read_picture(tmp_path / "cut.png").pixels
    assert shown.shape == (8, 16, 4)
    assert not shown[:, :8, 3].any() and bool((shown[:, 8:, 3] == 1).all())


def test_an_opaque_picture_has_three_channels_whatever_its_mode(tmp_path):
    upright().convert("RGBA").save(tmp_path / "opaque.png")
    assert torch.equal(read_picture(tmp_path / "opaque.png").pixels, pixels(upright()))


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_of_several_frames_the_first_is_used_and_said(tmp_path, ending):
    first, second = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    first.save(tmp_path / f"many.{ending}", save_all=True, append_images=[second, first])
    found = read_picture(tmp_path / f"many.{ending}")
    assert found.note == f"many.{ending}: the first of 3 frames is used"
    assert float(found.pixels[..., 0].mean()) > 0.95 and float(found.pixels[..., 2].mean()) < 0.05


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("empty.jpg", b"", "empty.jpg, which is empty"),
     ("text.png", b"hello", "text.png, which cannot be read .UnidentifiedImageError"),
     ("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "phone.heic, which cannot be read .*save it as PNG")])
def test_files_that_are_no_pictures_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_picture(tmp_path / name)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "gif", "tif", "bmp"])
def test_a_file_that_ends_early_is_named(tmp_path, ending):
    path = tmp_path / f"half.{ending}"
    Image.fromarray(numpy.random.default_rng(0).integers(0, 255, (64, 64, 3), numpy.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(InputError, match=f"half.{ending}, which cannot be read"):
        read_picture(path)


@pytest.mark.parametrize(
    ("image", "value"),
    [(Image.new("L", (8, 8), 255), 1.0), (Image.new("1", (8, 8), 1), 1.0), (Image.new("RGB", (8, 8), "red"), 1.0),
     (Image.new("RGBA", (8, 8), (255, 255, 255, 0)), 0.0), (Image.new("RGBA", (8, 8), (255, 255, 255, 255)), 1.0),
     (Image.new("L", (8, 8), 0), 0.0), (Image.new("I;16", (8, 8), 65535), 1.0)])
def test_a_mask_is_how_bright_its_brightest_channel_is(tmp_path, image, value):
    image.save(tmp_path / "mask.png")
    assert torch.equal(read_mask(tmp_path / "mask.png"), torch.full((8, 8), value))


def test_a_mask_of_the_photos_shape_is_scaled_and_another_is_left_alone():
    mask = torch.zeros(10, 20)
    mask[:, 10:] = 1
    scaled = fit_mask(mask, 100, 200)
    assert scaled.shape == (100, 200) and not scaled[:, :90].any() and bool((scaled[:, 110:] == 1).all())
    assert fit_mask(mask, 10, 20) is mask and fit_mask(mask, 20, 10) is mask and fit_mask(mask, 100, 210) is mask


WORDS = "a zkz dog, “très” joli"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_a_caption_is_what_was_typed_in_whatever_encoding(tmp_path, encoding):
    (tmp_path / "dog.txt").write_bytes(f"{WORDS}\r\non a beach\r\n".encode(encoding))
    assert read_caption(tmp_path / "dog.txt") == f"{WORDS} on a beach"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_with_its_mark_loses_the_mark(encoding):
    assert decode_text(("\ufeff" + WORDS).encode(encoding)) == WORDS


def test_bytes_that_windows_does_not_define_are_no_error():
    assert decode_text(b"caf\xe9 \x81") == "café \x81"


def test_an_empty_caption_file_is_an_empty_text(tmp_path):
    (tmp_path / "dog.txt").write_bytes(b" \r\n")
    assert read_caption(tmp_path / "dog.txt") == ""


def test_a_picture_whose_name_is_no_text_is_refused_in_text(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    path.write_bytes(b"no picture")
    with pytest.raises(InputError) as refusal:
        read_picture(path)
    assert b"caf\\udce9.jpg, which cannot be read" in str(refusal.value).encode("utf-8")


def test_a_caption_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "dog.txt").write_bytes(b"\xff\xfea")
    with pytest.raises(InputError, match="captions: got dog.txt, which cannot be read"):
        read_caption(tmp_path / "dog.txt")
    with pytest.raises(InputError, match="captions: got cat.txt, which cannot be read"):
        read_caption(tmp_path / "cat.txt")


def test_a_very_large_picture_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    upright().save(tmp_path / "large.png")
    with pytest.warns(Image.DecompressionBombWarning):
        assert read_picture(tmp_path / "large.png").pixels.shape == (16, 24, 3)
