// An element with properties and children.
function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  if (tag === 'button') made.type = 'button';
  made.append(...children);
  return made;
}
