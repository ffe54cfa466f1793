"""Masks against exact truth, on the pocket world: which pictures (`scenes`), what DCI's branches see in them
(`recording`), where the subject of a sampled picture is (`segmentation`), IoU (`scoring`), and the page (`page`).

Scripts import it by plain name; `comfyui_personalize` can be imported only after `start_comfyui`, so inside functions.
"""
