// The words of the part in the visitor's language, and `say('key', {count: 3})`.
const words = props.words[navigator.language] ?? props.words.en;
const say = (key, values = {}) =>
  words[key].replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name] ?? whole;
    return typeof value === 'number' ? value.toLocaleString(navigator.language) : value;
  });
