"""Where numbers become private: random streams, clipping, noise, sampling."""
