"""One workflow for many subjects: a table of photos in; adapters, pictures and an index out; on every GPU at hand.

Runs outside ComfyUI and starts ComfyUI servers of its own. With one worker it is a batch command, with Ray a fleet.
Arrows: command -> page, progress, on_ray -> alone -> engine; command -> worker -> watch, server -> client;
command -> jobs -> graph, table -> plan, storage -> errors.
"""
