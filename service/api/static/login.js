// A link from elsewhere arrives without the cookie, which is for requests from here alone: look again from here.
"use strict";
(async () => {
  const answer = await fetch("/api/v1/session").catch(() => null);
  if (answer?.ok) location.replace(document.querySelector('meta[name="next"]').content);
})();
