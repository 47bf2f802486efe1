// The key of a service that has keys: asked for once, kept by this tab alone, sent with every request.

const KEPT = "lookalike-key";
const $ = (id) => document.getElementById(id);

/** The headers that a request needs beside its own. */
export function keyHeaders() {
  const key = sessionStorage.getItem(KEPT);
  return key === null ? {} : { "X-API-Key": key };
}

export const hasKey = () => sessionStorage.getItem(KEPT) !== null;

/** Shows the form. why: what the service said of the key that was sent; a key that opens nothing is forgotten. */
export function askForKey(why) {
  const refused = hasKey();
  if (!refused && !$("key-form").hidden) return; // asked already; what stands there may be about the key before
  sessionStorage.removeItem(KEPT);
  $("key-text").textContent = refused ? `${why}.` : "Whoever runs this catalogue can give you one.";
  $("key-form").classList.toggle("refused", refused);
  $("key-form").hidden = false;
  $("key").focus();
}

/** go: called with a new key in place. */
export function onKey(go) {
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const key = $("key").value.trim();
    if (key === "" || !/^[\x21-\x7e]+$/.test(key)) {
      $("key-text").textContent = "A key is one word of letters, digits and signs.";
      return;
    }
    sessionStorage.setItem(KEPT, key);
    $("key").value = "";
    $("key-form").hidden = true;
    go();
  });
}
