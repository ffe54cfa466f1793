"""DCI: divide, conquer, then integrate — two denoising branches, one picture.

Source: Jin et al., "Customized Generation Reimagined", ECCV 2024, section 3.3.

`phrases` finds the subject's tokens and writes the auxiliary prompt, `nouns` judges the auxiliary noun,
`dbim` mixes the branches in cross-attention, `config` says how strongly and for how long, `latents` starts
the auxiliary branch.
"""
