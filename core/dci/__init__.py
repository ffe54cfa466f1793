"""DCI: divide, conquer, then integrate — two denoising branches, one picture.

Source: Jin et al., "Customized Generation Reimagined", ECCV 2024, section 3.3.

`subjects` are who is drawn, and the prompts of both branches; `phrases` finds the subjects' tokens; `nouns` and
`noun_scores` rank the auxiliary noun; `config` says how strongly, how long and where the auxiliary branch takes part;
`latents` starts it; `dbim` mixes the branches in attention; `observation` and `sheets` show what the masks saw.
"""
