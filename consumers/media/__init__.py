"""Reading, decoding and cutting video with PyAV. Nothing here knows of tables or pools."""
