"""One module for each backend: `prepare(file, inputs)` loads a model and gives a function that runs it.

`inputs` are those of the first run, for backends that want to know their shapes. One thread, float32."""
