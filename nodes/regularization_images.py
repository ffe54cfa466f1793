"""Regularization images of one's own: real photos of the class (Custom Diffusion, arXiv:2212.04488, 3.2)."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..core.errors import require
from ..core.store.class_images import check_noun_is_new
from ..core.wording import clean_prompt
from .bridge.notices import show_notice
from .bridge.photos.folders import find_folder, folder_state, input_folders
from .bridge.photos.own_class_images import check_vae, encode_class_photos, photos_of_class
from .bridge.queue.fingerprints import fingerprint
from .bridge.queue.queue_checks import WholeSteps, answer
from .bridge.sockets import PRIOR

NO_FOLDER = "none"
FEW = 20


class RegularizationImages(io.ComfyNode):
    """Pictures of a class to PRIOR."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeRegularizationImages",
            display_name="Regularization Images",
            category="personalize",
            description="Your own pictures of the subject's class, other dogs for your dog, instead of pictures that "
                        "the model makes. Training keeps 'a dog' as it is in them.",
            search_aliases=["class images", "reg images", "regularisation", "prior preservation", "custom diffusion",
                            "real class photos"],
            is_input_list=True,
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                io.Combo.Input("folder", options=[NO_FOLDER, *input_folders()], default=NO_FOLDER,
                               tooltip="A folder of pictures inside ComfyUI's input folder, with captions beside them "
                                       "or without. Default none: connect images."),
                io.String.Input("class_noun", default="dog",
                                tooltip="What is on the pictures. Connect class_noun of Subject Photos, so that it is "
                                        "typed once. Default dog."),
                io.Int.Input("size", default=512, min=WholeSteps(64, 8), max=4096, step=8,
                             tooltip="Width and height that the pictures are cropped and scaled to, in pixels, 64 to "
                                     "4096. Use the training resolution. Default 512."),
                io.Image.Input("images", optional=True,
                               tooltip="Optional. Pictures of the class: one, a batch, or a list; sizes may differ."),
                io.String.Input("captions", optional=True, force_input=True,
                                tooltip="Optional. Captions of the connected images: a list, or one text with a line "
                                        "for each; an empty one means 'a {noun}'."),
                PRIOR.Input("prior", optional=True, tooltip="Optional. Class images of another noun."),
            ],
            outputs=[
                PRIOR.Output("PRIOR", tooltip="All pools so far, for Prior Preservation."),
                io.Image.Output("IMAGE", tooltip="The first 16 as they are trained, to look at."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, folder=None) -> bool | str:
        """Refuses a folder that is not there when the graph is queued."""
        return answer(("folder", _folder, folder))

    @classmethod
    def fingerprint_inputs(cls, folder=None, **_) -> str | float:
        """A digest of the folder's files; never the same for a linked name."""
        return fingerprint(lambda name: NO_FOLDER if name == NO_FOLDER else folder_state(name), folder)

    @classmethod
    def execute(cls, vae, folder, class_noun, size, images=None, captions=None, prior=None) -> io.NodeOutput:
        texts = [clean_prompt(text, "captions") for text in captions or () if text is not None]
        noun = clean_prompt(class_noun[0], "class_noun").strip()
        upstream = tuple(pool for chain in prior or () if chain for pool in chain)
        check_vae(vae[0])
        _check_size(size[0])
        check_noun_is_new(upstream, noun)
        pictures = [image for image in images or () if image is not None]
        count, photos = photos_of_class(_folder(folder[0]), pictures, texts)
        pool, shown = encode_class_photos(vae[0], photos, count, noun, size[0])
        warnings = [] if noun else ["the class noun is empty: the pictures then show anything at all."]
        if count < FEW:
            warnings.append(f"{count} regularization images are few: the class will look like them; use 100 to 200")
        show_notice(cls.hidden.unique_id, f"{count} pictures of '{pool.prompt}'", warnings)
        return io.NodeOutput((*upstream, pool), shown)


def _folder(name: str) -> str:
    """The chosen folder's name once it is checked; empty for none."""
    if name == NO_FOLDER:
        return ""
    find_folder(name)
    return name


def _check_size(size: int) -> None:
    require(isinstance(size, int) and size >= 64 and size % 8 == 0, "size", size, "64 pixels or more, a multiple of 8",
            "Use the trainer's resolution.")
