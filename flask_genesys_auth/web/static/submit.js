// Sends the form of the page on; without JavaScript its button does.
HTMLFormElement.prototype.submit.call(document.forms[0]);
