// Plays a clip where its picture is; one at a time.
"use strict";
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.play");
  if (!button) return;
  for (const other of document.querySelectorAll(".screen video")) other.pause();
  const video = document.createElement("video");
  video.controls = true;
  video.autoplay = true;
  video.loop = true;
  video.playsInline = true;
  video.src = button.dataset.media;
  video.setAttribute("aria-label", button.getAttribute("aria-label"));
  video.addEventListener("error", () => {
    const note = document.createElement("p");
    note.textContent = "This clip cannot be played here: the browser does not know its codec, or the store does not answer.";
    video.replaceWith(note);
  });
  button.replaceWith(video);
  video.focus();
});
