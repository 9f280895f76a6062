exports.crud2 = async (request, response) => {
  // Exercise: write your code here.
  response.status(501).json({ message: "crud-2 is not written yet" });
};
