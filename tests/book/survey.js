// What tests/book/test_pages.py wants to know of a loaded page. Folds are opened first, so that they are seen too.
async () => {
  document.querySelectorAll("details").forEach((fold) => (fold.open = true));
  const images = [...document.images];
  await Promise.all(images.map((image) => ((image.loading = "eager"), image.decode().catch(() => null))));

  // [red, green, blue, alpha], the colours from 0 to 1; computed colours are rgb(...) or color(srgb ...).
  const parse = (text) => {
    const numbers = text.match(/[\d.]+(e-?\d+)?/g).map(Number);
    const [red, green, blue, alpha = 1] = numbers;
    return text.startsWith("rgb") ? [red / 255, green / 255, blue / 255, alpha] : [red, green, blue, alpha];
  };
  const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3]));
  const ground = (element) => {
    if (!element) return [1, 1, 1];
    const own = parse(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, ground(element.parentElement));
  };
  const luminance = (colour) => {
    const [red, green, blue] = colour.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (element) => {
    const below = ground(element);
    const ink = luminance(over(parse(getComputedStyle(element).color), below));
    const paper = luminance(below);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  };
  const speaks = (element) =>
    element.checkVisibility({ visibilityProperty: true }) &&
    [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());

  const opaque = (image) => {
    if (parse(getComputedStyle(image).backgroundColor)[3] === 1) return true;
    const canvas = new OffscreenCanvas(32, 32).getContext("2d");
    canvas.drawImage(image, 0, 0, 32, 32);
    return canvas.getImageData(0, 0, 32, 32).data.every((value, at) => at % 4 !== 3 || value === 255);
  };

  const name = (image) => image.currentSrc.slice(0, 80);
  const text = "p, li, td, th, dt, dd, h1, h2, h3, h4, a, b, em, strong, small, label, summary, figcaption, span, button";
  return {
    theme: document.documentElement.dataset.theme,
    headings: [...document.querySelectorAll("h1")].filter((heading) => heading.checkVisibility()).map((heading) => heading.innerText.trim()),
    unset: [...document.querySelectorAll("mjx-merror")].map((formula) => formula.textContent),
    silent: images.filter((image) => !image.alt.trim()).map(name),
    broken: images.filter((image) => !image.naturalWidth).map(name),
    glassy: images.filter((image) => image.closest("article") && image.naturalWidth && !opaque(image)).map(name),
    faint: [...document.querySelectorAll(":is(article, header, nav, aside, footer) :is(" + text + ")")]
      .filter((element) => speaks(element) && contrast(element) < 4.5)
      .map((element) => `${contrast(element).toFixed(1)} ${element.tagName} ${element.className} ${element.innerText.slice(0, 40)}`),
  };
}
