"""The frozen vision-language model: loading, image features, prompt encoding."""
