"""What the pages of the DCI bench say beside their tables."""

DEFAULTS = """# DCI's defaults: the sweep on held-in subjects

Made by `{command}`.

DCI's options one at a time around the published settings, then together, on held-in subjects of the pocket world. The
model is **overfitted** on purpose, as in the paper's curves: on lightly trained models every place is obeyed without
DCI and nothing can show. *alignment*: the judge's probability of what the prompt asks for; *fidelity*: cosine to the
subject's photos; *area*: alignment times fidelity; *places*: alignment of the prompts without a colour; *noun*:
probability of the class noun. Means with 95 % bootstrap intervals over subjects; differences are of the same subject,
prompt and noise. No held-out subject was looked at. Where cells are missing (n below 5) there is no interval; the
command makes them. With 5 subjects such an interval leaves a true zero outside in 7 to 20 % of cases, and nothing is
corrected for the number of rows."""

REASONS = """## What was decided

- **window and sharpening: as published for the latents they were published for; for small latents window 1 and
  sharpening by resolution.** On the pocket model's 12 x 12 latents these two together give 0.21 more alignment than the
  published 0.3, and 0.25 more than plain sampling, beyond the interval, at 0.04 to 0.05 less fidelity. Each helps
  alone, too.
- **omega 1, as published.** At the published window omega 2 gives 0.07 more alignment; where window and sharpening
  follow the size it gives 0.02, in area undecided: too little to leave the neutral point for.
- **Shared guidance, independent auxiliary noise, all layers: as published.** None of the others is better in area.

So the nodes' defaults follow the latents' size (window -1, *auto*): published at 64 x 64, as found here at 12 x 12,
between them evenly in the logarithm of cells; 0.3 in *window* is the published way at every size. Why by size:

- Both constants are about size, and this bench has one size that no user draws at. At 64 x 64 latents sharpening by
  resolution **is** the published one. The window is a fraction of noise levels, and how much noise hides a layout
  depends on how many cells a region has: what sigma 3.3 (window 0.3) hides at 64 x 64 is hidden at 12 x 12 by 12 / 64
  of it, sigma 0.62, which is window 0.78 (resolution shift, Hoogeboom et al. 2023).
- Window 1 costs 3 rows where plain sampling costs 2, all the time: 1.5 times plain instead of 1.15.

## What stands behind it

- The masks are nearly binary as published: 500 divided by the 144, 36 and 9 pixels of the pocket's scales makes logits
  of 3.5, 14 and 56 on average, where 512 x 512 pictures on Stable Diffusion have 0.5 to 8. That is what sharpening by
  resolution takes back.
- It is a strongly overfitted model, of one photo; one that forgets less gains less."""

EVIDENCE = """# DCI on held-out subjects

Made by `{command}`; settings were frozen before by [the sweep on held-in subjects](dci_defaults.md): window 1,
sharpening by resolution, omega 1.

The raw model is overfitted on purpose, as in the paper's curves: one photo, learned almost by heart, until the model
forgets what the prompt asks for beside the subject. *alignment*: the judge's probability of what the prompt asks for;
*fidelity*: cosine to the subject's photos; *area*: what of the unit square a curve's points dominate, for one point
alignment times fidelity; *places*: alignment of the prompts without a colour; *noun*: probability of the class noun.
Means with 95 % bootstrap intervals over subjects; differences are of the same subject, prompt and noise.

A claim is called *supported* or *contradicted* here where its interval lies on one side of zero, and that alone. With
6 subjects this rule calls a true zero decided in 7 % of cases (normal differences) to 12 to 20 % (skewed ones), and
nothing is corrected for the number of claims. The cells behind the figures are not part of the repository, so that the
intervals cannot be recomputed without training again. Read them as what a few subjects showed, not as proof."""
